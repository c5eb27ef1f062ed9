# Completion of baton(8) for fish.

set -l commands serve check reload status stop version
set -l none "not __fish_seen_subcommand_from $commands"
set -l serve '__fish_seen_subcommand_from serve'

complete -c baton -f
complete -c baton -n $none -a serve -d 'Serve until stopped'
complete -c baton -n $none -a check -d 'Check the configuration'
complete -c baton -n $none -a reload -d 'Let the running server take over configuration and binary'
complete -c baton -n $none -a status -d 'Show what the running server does'
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
