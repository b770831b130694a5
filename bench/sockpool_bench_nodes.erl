%% @doc Another node, and the large messages to it while small calls are measured.
-module(sockpool_bench_nodes).

-export([start/0, stop/1, with_traffic/2]).
-export_type([other/0]).

-opaque other() :: {Control :: pid(), node()}.

-define(LARGE_BYTES, (64 bsl 20)).

%% @doc Makes this VM a node, where it is none, and starts another one that it is connected to.
-spec start() -> {other(), node()}.
start() ->
    ok = be_a_node(is_alive()),
    {ok, Control, Node} = peer:start_link(#{name => peer:random_name(sockpool_bench),
                                            connection => standard_io}),
    true = net_kernel:connect_node(Node),
    {{Control, Node}, Node}.

be_a_node(true) ->
    ok;
be_a_node(false) ->
    [] = os:cmd("epmd -daemon"),
    {ok, _} = net_kernel:start(list_to_atom(peer:random_name(sockpool_bench)),
                               #{name_domain => shortnames}),
    ok.

-spec stop(other()) -> ok.
stop({Control, _Node}) ->
    peer:stop(Control).

%% @doc Runs the fun while messages of 64 MiB are under way to the node. How many arrived meanwhile is
%% `large' in its measurement; without any it is none.
-spec with_traffic(node(), fun(() -> sockpool_bench_load:outcome())) -> sockpool_bench_load:outcome().
with_traffic(Node, Fun) ->
    Arrived = counters:new(1, []),
    Large = binary:copy(<<"large...">>, ?LARGE_BYTES div 8),
    Sender = spawn_link(fun() -> send(Node, Large, Arrived) end),
    ok = sockpool_bench_wait:until(fun() -> counters:get(Arrived, 1) > 0 end),
    Before = counters:get(Arrived, 1),
    Outcome = Fun(),
    Count = counters:get(Arrived, 1) - Before,
    ok = end_sender(Sender),
    told(Outcome, Count).

told({ok, _}, 0) -> {failed, no_large_message_arrived};
told({ok, Measurement}, Count) -> {ok, Measurement#{large => Count}};
told(Other, _Count) -> Other.

send(Node, Large, Arrived) ->
    ?LARGE_BYTES = erpc:call(Node, erlang, byte_size, [Large]),
    counters:add(Arrived, 1, 1),
    send(Node, Large, Arrived).

end_sender(Pid) ->
    Monitor = monitor(process, Pid),
    true = unlink(Pid),
    true = exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.
