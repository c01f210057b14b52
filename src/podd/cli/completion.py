"""podd-cli completion: scripts that hand every question to `podd-cli __complete`, which knows the options and asks the
daemon for names. A script only carries the words there and the answers back.

The answer's last line begins with a colon: ":files" where files may stand, else ":".
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

BASH = """\
# bash completion for podd-cli: source <(podd-cli completion bash)
_podd_cli() {
    local line word current words=()
    COMPREPLY=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do  # bash has split --option=value in three
        if [[ $word == '=' || ${current: -1} == '=' ]] && (( ${#words[@]} )); then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        current=${words[-1]}
    done
    while IFS= read -r line; do
        line=${line%%$'\\t'*}
        case $line in
            :files) mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]#=}")
                    compopt -o filenames ;;
            :) ;;
            --*=*) COMPREPLY+=("${line#*=}") ;;
            *) COMPREPLY+=("$line") ;;
        esac
    done < <("${COMP_WORDS[0]}" __complete -- "${words[@]}" 2> /dev/null)
}
complete -F _podd_cli podd-cli
"""

ZSH = """\
#compdef podd-cli
# zsh completion for podd-cli: source <(podd-cli completion zsh), or a file _podd-cli in $fpath
_podd_cli() {
    local line files=
    local -a found
    while IFS= read -r line; do
        case $line in
            :files) files=1 ;;
            :) ;;
            *) found+=("${${line//:/\\\\:}/$'\\t'/:}") ;;
        esac
    done < <("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2> /dev/null)
    (( $#found )) && _describe -V podd-cli found
    [[ -n $files ]] && _files
}
if [[ $funcstack[1] == _podd_cli || $funcstack[1] == _podd-cli ]]; then
    _podd_cli "$@"
else
    compdef _podd_cli podd-cli
fi
"""

FISH = """\
# fish completion for podd-cli: podd-cli completion fish | source
function __podd_cli
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] __complete -- $words[2..-1] 2> /dev/null)
        switch $line
            case :files
                __fish_complete_path (commandline -ct)
            case :
            case '*'
                echo $line
        end
    end
end
complete -c podd-cli -f -a '(__podd_cli)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=SCRIPTS)


def run(options: Namespace) -> int:
    print(SCRIPTS[options.shell], end="")
    return 0
