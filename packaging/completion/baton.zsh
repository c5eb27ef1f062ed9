#compdef baton
# Completion of baton(8) for zsh.

_baton_commands()
{
    local -a commands=(
        'serve:serve until stopped'
        'check:check the configuration'
        'reload:let the running server take over configuration and binary'
        'status:show what the running server does'
        'pause:let the requests for an upstream wait'
        'resume:let them go on'
        'stop:stop the running server gracefully'
        'version:print the version'
    )
    _describe -t commands command commands
}

_baton_upstreams()
{
    local file=${opt_args[-c]:-${opt_args[--config]:-/etc/baton/baton.conf}}
    local -a names=(${(f)"$(sed -n 's/^\[Upstream  *\(.*\)\]$/\1/p' $file $file.d/*.conf(N) 2>/dev/null)"})
    compadd -a names
}

local -a options=(
    '(-c --config --listen --root)'{-c,--config}'[configuration]:file:_files'
    '--control[control socket]:path:_files'
    '(-h --help)'{-h,--help}'[print a summary]'
    '--version[print the version]'
)
if (( ${words[(I)serve]} )); then
    options+=(
        '(-c --config)*--listen[address to listen on]:address:'
        '(-c --config)--root[folder to serve]:folder:_files -/'
        '(-v --verbose)'{-v,--verbose}'[log every change of state]'
    )
elif (( ${words[(I)status]} )); then
    options+=('--json[as JSON]')
elif (( ${words[(I)(pause|resume)]} )); then
    options+=('2:upstream:_baton_upstreams')
fi
_arguments -s $options '1:command:_baton_commands'
