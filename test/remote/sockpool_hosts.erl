%%% Three hosts on a switch, each a network namespace with a node in it, and links that can be cut. The
%%% nodes are told what to do over their standard input: this VM is on none of those hosts.
%%%
%%% It takes root and `ip'.
-module(sockpool_hosts).

-export([start/0, stop/1, call/4, cut/2, mend/2, start_daemon/1]).

-export_type([net/0, host/0]).

-type host() :: #{node := node(), control := pid(), port := string(), space := string(),
                  address := string()}.
-type net() :: #{switch := string(), hosts := [host()], spaces := [string()]}.

%% Seconds. A node that says nothing is given up after 1.5 to 2.5 of them.
-define(TICK_TIME, "2").

-spec start() -> {ok, net()} | {skip, string()}.
start() ->
    Space = lists:concat(["sockpool-", os:getpid(), "-"]),
    Switch = Space ++ "switch",
    case ip(["netns add ", Switch, " && ip -n ", Switch, " link add br0 type bridge"]) of
        {0, _} ->
            {ok, start(Space, Switch)};
        {_, Why} ->
            _ = ip(["netns delete ", Switch]),
            {skip, "no network namespace with a bridge can be made: " ++ Why}
    end.

start(Space, Switch) ->
    ok = done(ip(["-n ", Switch, " link set br0 up"])),
    Numbers = [1, 2, 3],
    Spaces = [Space ++ integer_to_list(N) || N <- Numbers],
    Hosts = [host(Switch, HostSpace, N) || {HostSpace, N} <- lists:zip(Spaces, Numbers)],
    #{switch => Switch, hosts => Hosts, spaces => [Switch | Spaces]}.

host(Switch, Space, N) ->
    Port = lists:concat(["port", N]),
    Address = lists:concat(["10.99.0.", N]),
    [ok = done(ip(Command))
     || Command <- [["netns add ", Space],
                    ["-n ", Switch, " link add ", Port, " type veth peer name eth0 netns ", Space],
                    ["-n ", Switch, " link set ", Port, " master br0 up"],
                    ["-n ", Space, " addr add ", Address, "/24 dev eth0"],
                    ["-n ", Space, " link set eth0 up"],
                    ["-n ", Space, " link set lo up"]]],
    Erl = filename:join([code:root_dir(), "bin", "erl"]),
    Args = ["-kernel", "net_ticktime", ?TICK_TIME, "prevent_overlapping_partitions", "false"
            | lists:append([["-pa", Path] || Path <- code:get_path()])],
    {ok, Control, Node} = peer:start(#{name => sockpool, host => Address, longnames => true,
                                       connection => standard_io, wait_boot => 60000, args => Args,
                                       exec => {os:find_executable("ip"),
                                                ["netns", "exec", Space, Erl]}}),
    #{node => Node, control => Control, port => Port, space => Space, address => Address}.

-spec stop(net()) -> ok.
stop(#{hosts := Hosts, spaces := Spaces}) ->
    [ok = peer:stop(Control) || #{control := Control} <- Hosts],
    lists:foreach(fun remove/1, Spaces).

%% The hosts' epmd is not a child of their nodes.
remove(Space) ->
    {0, Pids} = ip(["netns pids ", Space]),
    [[] = os:cmd("kill -9 " ++ Pid) || Pid <- string:lexemes(Pids, "\n")],
    ok = done(ip(["netns delete ", Space])).

%% In a process of its own on the host.
-spec call(host(), module(), atom(), [term()]) -> term().
call(#{control := Control}, Module, Function, Args) ->
    peer:call(Control, Module, Function, Args, infinity).

%% A C node on the host, in the cluster of its node.
-spec start_daemon(host()) -> sockpool_c_daemon:daemon().
start_daemon(#{space := Space, address := Address} = Host) ->
    Cookie = atom_to_list(call(Host, erlang, get_cookie, [])),
    sockpool_c_daemon:start(#{name => list_to_atom("daemon@" ++ Address),
                              prefix => [os:find_executable("ip"), "netns", "exec", Space],
                              args => ["--tick-time", ?TICK_TIME],
                              env => [{"SOCKPOOL_COOKIE", Cookie}]}).

-spec cut(net(), host()) -> ok.
cut(Net, Host) -> set_link(Net, Host, " down").

-spec mend(net(), host()) -> ok.
mend(Net, Host) -> set_link(Net, Host, " up").

set_link(#{switch := Switch}, #{port := Port}, State) ->
    done(ip(["-n ", Switch, " link set ", Port, State])).

done({0, _Output}) -> ok;
done({_Status, Output}) -> error({ip, Output}).

ip(Command) ->
    Output = os:cmd(lists:flatten(["PATH=$PATH:/usr/sbin:/sbin; ip ", Command, " 2>&1; echo $?"])),
    [Status | Lines] = lists:reverse(string:lexemes(Output, "\n")),
    {list_to_integer(Status), lists:append(lists:join("\n", lists:reverse(Lines)))}.
