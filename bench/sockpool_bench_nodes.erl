%% @doc Two nodes, and the large messages between them while small calls are measured.
%%
%% The clients run in a VM of their own, and so does what they call. Neither has schedulers that spin
%% when they have nothing to do: on a few cores they would keep the other VM from running.
-module(sockpool_bench_nodes).

-export([start/0, stop/1, other/1, measure/5]).
-export([start_epmd/0, start_node/1]).
%% Called in the VM of the clients.
-export([free/3, loaded/3]).
-export_type([nodes/0]).

-opaque nodes() :: {Clients :: pid(), Other :: pid(), node()}.

-define(NO_SPINNING, ["+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"]).
-define(LARGE_BYTES, (64 bsl 20)).
-define(LIMIT_MS, 180000).

-spec start() -> nodes().
start() ->
    ok = start_epmd(),
    Quiet = #{connection => standard_io, args => ?NO_SPINNING},
    {Clients, _} = start_node(Quiet),
    {Other, Node} = start_node(Quiet),
    {Clients, Other, Node}.

%% @doc Where it does not run.
-spec start_epmd() -> ok.
start_epmd() ->
    [] = os:cmd("epmd -daemon"),
    ok.

%% @doc A node with the code of this one, linked to the caller. More options of peer:start_link/1.
-spec start_node(map()) -> {Control :: pid(), node()}.
start_node(Options) ->
    Paths = lists:append([["-pa", filename:absname(Path)] || Path <- code:get_path()]),
    Args = maps:get(args, Options, []) ++ Paths,
    {ok, Control, Node} = peer:start_link(Options#{name => peer:random_name(sockpool_bench), args => Args}),
    {Control, Node}.

-spec stop(nodes()) -> ok.
stop({Clients, Other, _Node}) ->
    peer:stop(Clients),
    peer:stop(Other).

%% @doc The node that is called.
-spec other(nodes()) -> node().
other({_Clients, _Other, Node}) -> Node.

%% @doc As sockpool_bench_load:repeat/3, in the clients' VM: `free', or `loaded' with messages of 64 MiB
%% under way to the other node. How many arrived meanwhile is `large' in the measurement then; none at
%% all is a failure.
-spec measure(nodes(), free | loaded, sockpool_bench_peers:name(), sockpool_bench_load:target(), map()) ->
          sockpool_bench_load:outcome().
measure({Clients, _Other, _Node}, Way, Peer, Target, Options) ->
    peer:call(Clients, ?MODULE, Way, [Peer, Target, Options], ?LIMIT_MS).

-spec free(sockpool_bench_peers:name(), sockpool_bench_load:target(), map()) ->
          sockpool_bench_load:outcome().
free(Peer, Target, Options) ->
    sockpool_bench_load:repeat(Peer, Target, Options).

-spec loaded(sockpool_bench_peers:name(), sockpool_bench_load:target(), map()) ->
          sockpool_bench_load:outcome().
loaded(Peer, Target = #{node := Node}, Options) ->
    Arrived = counters:new(1, []),
    Large = binary:copy(<<"large...">>, ?LARGE_BYTES div 8),
    Sender = spawn_link(fun() -> send(Node, Large, Arrived) end),
    ok = sockpool_bench_wait:until(fun() -> counters:get(Arrived, 1) > 0 end),
    Before = counters:get(Arrived, 1),
    Outcome = free(Peer, Target, Options),
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
