%%% Nodes of a cluster for the suites: this VM made a node, peers with and without sockpool, and
%%% client processes on any of them that do what they are told.
-module(sockpool_cluster).

-export([be_a_node/0, start_peer/0, start_peer/1, start_plain_peer/0, stop_peer/1, kill_vm/1]).
-export([client/1, run/2, begin_run/2, result/1, kill/1]).
-export([holds_nothing/1, restart_server/1]).

-export_type([peer/0]).

-type peer() :: #{node := node(), control := pid(), os_pid := string()}.

-define(DEADLINE_MS, 60000).

%% epmd is started where it does not run.
-spec be_a_node() -> ok.
be_a_node() ->
    case is_alive() of
        true ->
            ok;
        false ->
            [] = os:cmd("epmd -daemon"),
            %% It goes into the background before it listens.
            ok = sockpool_test_util:wait_until(fun() -> element(1, erl_epmd:names("localhost")) =:= ok end),
            Name = list_to_atom(peer:random_name(sockpool_ct)),
            {ok, _} = net_kernel:start(Name, #{name_domain => shortnames}),
            ok
    end.

%% A node on which sockpool runs.
-spec start_peer() -> peer().
start_peer() -> start_peer(#{}).

%% With further options of peer:start/1, of which `args' come after ours.
-spec start_peer(map()) -> peer().
start_peer(Options) ->
    #{node := Node} = Peer = start_plain_peer(Options),
    {ok, _} = erpc:call(Node, application, ensure_all_started, [sockpool]),
    Peer.

%% Told what to do over its standard input: the distribution is the test's own.
-spec start_plain_peer() -> peer().
start_plain_peer() -> start_plain_peer(#{}).

start_plain_peer(Options) ->
    %% Otherwise two nodes that lose each other lose the others too, and who had lost what is not known.
    Alone = ["-kernel", "prevent_overlapping_partitions", "false"],
    Paths = lists:append([["-pa", Path] || Path <- code:get_path()]),
    Args = Alone ++ Paths ++ maps:get(args, Options, []),
    {ok, Control, Node} = peer:start(Options#{name => peer:random_name(sockpool_peer),
                                              connection => standard_io, wait_boot => ?DEADLINE_MS,
                                              args => Args}),
    OsPid = peer:call(Control, os, getpid, []),
    true = net_kernel:connect_node(Node),
    #{node => Node, control => Control, os_pid => OsPid}.

-spec stop_peer(peer()) -> ok.
stop_peer(#{control := Control}) ->
    peer:stop(Control).

%% Without a word to anybody. Returns when this node has seen that it is gone.
-spec kill_vm(peer()) -> ok.
kill_vm(#{node := Node, os_pid := OsPid}) ->
    true = monitor_node(Node, true),
    [] = os:cmd("kill -9 " ++ OsPid),
    receive {nodedown, Node} -> ok after ?DEADLINE_MS -> error({still_up, Node}) end.

%%% Clients.

-spec client(node()) -> pid().
client(Node) -> spawn(Node, fun loop/0).

loop() ->
    receive
        {run, From, Ref, Fun} ->
            From ! {Ref, Fun()},
            loop()
    end.

%% What the fun returns in the client.
-spec run(pid(), fun(() -> term())) -> term().
run(Client, Fun) -> result(begin_run(Client, Fun)).

-spec begin_run(pid(), fun(() -> term())) -> reference().
begin_run(Client, Fun) ->
    Ref = monitor(process, Client),
    Client ! {run, self(), Ref, Fun},
    Ref.

-spec result(reference()) -> term().
result(Ref) ->
    receive
        {Ref, Result} ->
            true = demonitor(Ref, [flush]),
            Result;
        {'DOWN', Ref, process, _, Reason} ->
            {down, Reason}
    after ?DEADLINE_MS ->
        error(no_result)
    end.

-spec kill(pid()) -> ok.
kill(Client) ->
    Ref = monitor(process, Client),
    exit(Client, kill),
    receive {'DOWN', Ref, process, _, _} -> ok after ?DEADLINE_MS -> error(alive) end.

%%% The server of a node.

%% True when it knows of no client, lease or call any more.
-spec holds_nothing(node()) -> true | {left, [map()]}.
holds_nothing(Node) ->
    case [Map || Map <- tuple_to_list(sys:get_state({sockpool, Node})), is_map(Map),
                 map_size(Map) > 0] of
        [] -> true;
        Left -> {left, Left}
    end.

%% Kills it; returns when its successor answers.
-spec restart_server(node()) -> ok.
restart_server(Node) ->
    Old = erpc:call(Node, erlang, whereis, [sockpool]),
    true = exit(Old, kill),
    sockpool_test_util:wait_until(
      fun() ->
              case erpc:call(Node, erlang, whereis, [sockpool]) of
                  New when is_pid(New), New =/= Old -> true;
                  Other -> Other
              end
      end).
