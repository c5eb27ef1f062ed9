# Completion of baton(8) for bash.

# The names of the upstreams in the configuration that the words lead to.
_baton_upstreams()
{
    local file=/etc/baton/baton.conf i

    for ((i = 1; i + 1 < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            -c | --config) file=${COMP_WORDS[i + 1]} ;;
        esac
    done
    sed -n 's/^\[Upstream  *\(.*\)\]$/\1/p' "$file" "$file".d/*.conf 2>/dev/null
}

_baton()
{
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local commands='serve check reload status pause resume stop version' options='--config --control --help'
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
    if [[ $current != -* && $command =~ ^(pause|resume)$ ]]; then
        local IFS=$'\n'
        mapfile -t COMPREPLY < <(compgen -W "$(_baton_upstreams)" -- "$current")
    elif [[ $current == -* || -n $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
    else
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$current")
    fi
}

complete -F _baton baton
