#compdef baton
# Completion of baton(8) for zsh.

_baton_commands()
{
    local -a commands=(
        'serve:serve until stopped'
        'check:check the configuration'
        'reload:let the running server take over configuration and binary'
        'status:show what the running server does'
        'stop:stop the running server gracefully'
        'version:print the version'
    )
    _describe -t commands command commands
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
fi
_arguments -s $options '1:command:_baton_commands'
