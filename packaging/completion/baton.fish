# Completion of baton(8) for fish.

set -l commands serve check reload status pause resume stop version
set -l none "not __fish_seen_subcommand_from $commands"
set -l serve '__fish_seen_subcommand_from serve'

# The names of the upstreams in the configuration that the words lead to.
function __baton_upstreams
    set -l words (commandline -opc)
    set -l file /etc/baton/baton.conf
    for i in (seq (count $words))
        if contains -- $words[$i] -c --config; and set -q words[(math $i + 1)]
            set file $words[(math $i + 1)]
        end
    end
    sed -n 's/^\[Upstream  *\(.*\)\]$/\1/p' $file $file.d/*.conf 2>/dev/null
end

complete -c baton -f
complete -c baton -n $none -a serve -d 'Serve until stopped'
complete -c baton -n $none -a check -d 'Check the configuration'
complete -c baton -n $none -a reload -d 'Let the running server take over configuration and binary'
complete -c baton -n $none -a status -d 'Show what the running server does'
complete -c baton -n $none -a pause -d 'Let the requests for an upstream wait'
complete -c baton -n $none -a resume -d 'Let them go on'
complete -c baton -n '__fish_seen_subcommand_from pause resume' -a '(__baton_upstreams)'
complete -c baton -n $none -a stop -d 'Stop the running server gracefully'
complete -c baton -n $none -a version -d 'Print the version'
complete -c baton -s c -l config -r -F -d Configuration
complete -c baton -l control -r -F -d 'Control socket'
complete -c baton -s h -l help -d 'Print a summary'
complete -c baton -n $none -l version -d 'Print the version'
complete -c baton -n $serve -l listen -x -d 'Address to listen on'
complete -c baton -n $serve -l root -x -a '(__fish_complete_directories)' -d 'Folder to serve'
complete -c baton -n $serve -s v -l verbose -d 'Log every change of state'
complete -c baton -n '__fish_seen_subcommand_from status' -l json -d 'As JSON'
