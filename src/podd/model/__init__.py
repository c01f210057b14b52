"""What a pod is: the manifest (`pod`), what became of it (`status`), and the names of things (`ids`).

Pure data. Imports nothing of podd but `podd.errors`.
"""
