# Completion of baton(8) for bash.

_baton()
{
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local commands='serve check reload status stop version' options='--config --control --help'
    local word command=

    COMPREPLY=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [[ " $commands " == *" $word "* ]]; then
            command=$word
        fi
    done
    case $previous in
        -c | --config | --control | --root)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
            ;;
        --listen)
            return
            ;;
    esac
    case $command in
        '') options+=' --version' ;;
        serve) options+=' --listen --root --verbose' ;;
        status) options+=' --json' ;;
    esac
    if [[ $current == -* || -n $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
    else
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$current")
    fi
}

complete -F _baton baton
