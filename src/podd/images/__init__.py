"""Images that podd itself keeps: containers/storage, filled by skopeo, read and mounted by podd."""
