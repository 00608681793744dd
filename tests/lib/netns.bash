# A network namespace for each member, joined by a switch in another one: cables can be pulled. Loaded behind lib/cluster.bash.
#
#     setup_file() { netns_file 3 && cluster_file 3; }
#     teardown_file() { cluster_file_end; netns_file_end; }
#
# The namespaces' names are in $QFS_NETNS.list, from where cleanup takes them away when a test was killed. No packet leaves them.

netns_name() { echo "$QFS_NETNS-$1"; }

# netns_file N: namespaces 1 to N and the switch. Members are then reached at 10.77.0.N.
netns_file() {
    local id ns sw
    export QFS_NETNS=qfs$$
    "$QFS_TESTBIN/guard" $$ bash -c "for ns in \$(ip netns list | grep -o '^$QFS_NETNS-[a-z0-9]*'); do ip netns del \$ns; done" </dev/null >/dev/null 2>&1 3>&-
    sw=$(netns_name sw)
    ip netns add "$sw" && ip -n "$sw" link add br0 type bridge && ip -n "$sw" link set br0 up || return 1
    for id in $(seq "$1"); do
        ns=$(netns_name "$id")
        ip netns add "$ns" &&
            ip link add "port$id" netns "$sw" type veth peer name eth0 netns "$ns" &&
            ip -n "$sw" link set "port$id" master br0 up &&
            ip -n "$ns" address add "10.77.0.$id/24" dev eth0 &&
            ip -n "$ns" link set eth0 up && ip -n "$ns" link set lo up || return 1
    done
}

netns_file_end() {
    local ns
    for ns in $(ip netns list | grep -o "^$QFS_NETNS-[a-z0-9]*"); do ip netns del "$ns"; done
}

# netns_cluster_end: ends the file's cluster and its network, whatever fails.
netns_cluster_end() {
    local rc=0
    cluster_file_end || rc=1
    netns_file_end || rc=1
    return $rc
}

# unplug N, plug N: pulls the cable of a member, and puts it back. Nobody is told: packets just do not come.
unplug() { ip -n "$(netns_name sw)" link set "port$1" down; }
plug() { ip -n "$(netns_name sw)" link set "port$1" up; }
