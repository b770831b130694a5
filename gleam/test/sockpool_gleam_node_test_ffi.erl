%%% What the tests of distribute/connection_pool need of Erlang: another node and what is seen there,
%%% barriers, what was printed.
-module(sockpool_gleam_node_test_ffi).

-export([start_node/0, start_tls_node/1, port/1, connections_at/1,
         count_calls/1, calls/1, set_cookie/2, our_cookie/0, collect/2, collected/1]).
-export([barrier/1, arrive/1, arrivals/1, readers/0, kill_self/0, no_messages/0, logged/1, log/2]).
-export([println/1, printed/0, greet/1, fail/2, sleep_for_ever/0, answer_when_told/1]).

-define(DEADLINE_MS, 30000).

%% A node on which sockpool does not run.
-spec start_node() -> sockpool_cluster:peer().
start_node() ->
    ok = sockpool_cluster:be_a_node(),
    sockpool_cluster:start_plain_peer().

%% One that takes connections by TLS only, from those who have a certificate of the authority.
-spec start_tls_node(binary()) -> sockpool_cluster:peer().
start_tls_node(Certificates) ->
    ok = sockpool_cluster:be_a_node(),
    sockpool_node_kit:start_tls_node(binary_to_list(Certificates)).

%% Where it listens.
-spec port(sockpool_cluster:peer()) -> inet:port_number().
port(#{node := Node}) ->
    [Name, Host] = string:lexemes(atom_to_list(Node), "@"),
    {port, Port, _Version} = erl_epmd:port_please(Name, Host),
    Port.

%% How many connections of pools the other one has: they are hidden nodes there, and no others are.
-spec connections_at(sockpool_cluster:peer()) -> non_neg_integer().
connections_at(#{control := Control}) ->
    length(peer:call(Control, erlang, nodes, [hidden])).

%% From now on the other one counts what it is called to do.
-spec count_calls(sockpool_cluster:peer()) -> nil.
count_calls(#{control := Control}) ->
    {module, erpc} = peer:call(Control, code, ensure_loaded, [erpc]),
    1 = peer:call(Control, erlang, trace_pattern, [{erpc, execute_call, 4}, true, [call_count]]),
    nil.

-spec calls(sockpool_cluster:peer()) -> non_neg_integer().
calls(#{control := Control}) ->
    {call_count, Calls} = peer:call(Control, erlang, trace_info, [{erpc, execute_call, 4}, call_count]),
    Calls.

%% For connections that are made from now on.
-spec set_cookie(sockpool_cluster:peer(), binary()) -> nil.
set_cookie(#{control := Control}, Cookie) ->
    true = peer:call(Control, erlang, set_cookie, [binary_to_atom(Cookie)]),
    nil.

-spec our_cookie() -> binary().
our_cookie() -> atom_to_binary(erlang:get_cookie()).

%%% A process on the other node, registered under a name, which keeps what it gets.

-spec collect(sockpool_cluster:peer(), binary()) -> pid().
collect(#{node := Node}, Name) ->
    Parent = self(),
    Pid = spawn(Node, fun() ->
        true = register(binary_to_atom(Name), self()),
        Parent ! {registered, self()},
        keep([])
    end),
    receive {registered, Pid} -> Pid after ?DEADLINE_MS -> error(not_registered) end.

keep(Messages) ->
    receive
        {give, From, Ref} ->
            From ! {Ref, lists:reverse(Messages)},
            keep(Messages);
        Message ->
            keep([Message | Messages])
    end.

-spec collected(pid()) -> [term()].
collected(Collector) ->
    Ref = monitor(process, Collector),
    Collector ! {give, self(), Ref},
    receive
        {Ref, Messages} ->
            true = demonitor(Ref, [flush]),
            Messages
    after ?DEADLINE_MS ->
        error(no_answer)
    end.

%%% A barrier: nobody goes on before so many have arrived. It serves again and again.

-spec barrier(pos_integer()) -> pid().
barrier(Size) ->
    spawn(fun() -> gather(Size, [], 0) end).

gather(Size, Waiting, Arrived) when length(Waiting) =:= Size ->
    _ = [From ! {Ref, go_on} || {From, Ref} <- Waiting],
    gather(Size, [], Arrived);
gather(Size, Waiting, Arrived) ->
    receive
        {arrive, From, Ref} ->
            gather(Size, [{From, Ref} | Waiting], Arrived + 1);
        {arrivals, From, Ref} ->
            From ! {Ref, Arrived},
            gather(Size, Waiting, Arrived)
    end.

%% An error where the others do not come.
-spec arrive(pid()) -> nil.
arrive(Barrier) ->
    go_on = ask(Barrier, arrive),
    nil.

-spec arrivals(pid()) -> non_neg_integer().
arrivals(Barrier) -> ask(Barrier, arrivals).

ask(Barrier, What) ->
    Ref = make_ref(),
    Barrier ! {What, self(), Ref},
    receive {Ref, Answer} -> Answer after ?DEADLINE_MS -> error({alone, What}) end.

%%% Processes.

%% How many processes read connections to nodes.
-spec readers() -> non_neg_integer().
readers() ->
    length([Pid || Pid <- processes(),
                   {sockpool_node_conn, become, _} <- [proc_lib:initial_call(Pid)]]).

-spec kill_self() -> no_return().
kill_self() ->
    exit(self(), kill),
    receive after infinity -> ok end.

-spec no_messages() -> nil.
no_messages() ->
    ok = sockpool_test_util:assert_no_messages(),
    nil.

%% Warnings that are logged while the fun runs; nobody else gets them.
-spec logged(fun(() -> term())) -> [binary()].
logged(Fun) ->
    #{level := Level} = logger:get_primary_config(),
    Others = [{Id, maps:get(level, Config)} || #{id := Id} = Config <- logger:get_handler_config()],
    _ = [ok = logger:update_handler_config(Id, level, none) || {Id, _} <- Others],
    ok = logger:add_handler(?MODULE, ?MODULE, #{level => warning, config => self()}),
    ok = logger:set_primary_config(level, warning),
    try
        _ = Fun(),
        lines_logged()
    after
        ok = logger:set_primary_config(level, Level),
        ok = logger:remove_handler(?MODULE),
        [ok = logger:update_handler_config(Id, level, Was) || {Id, Was} <- Others]
    end.

%% The handler runs in the process that logs.
-spec log(logger:log_event(), logger:handler_config()) -> term().
log(#{msg := {Format, Args}}, #{config := Pid}) when is_list(Args) ->
    Pid ! {?MODULE, unicode:characters_to_binary(io_lib:format(Format, Args))};
log(_Event, _Config) ->
    ok.

lines_logged() ->
    receive {?MODULE, Line} -> [Line | lines_logged()]
    after 0 -> []
    end.

%%% The standard output of this process.

-spec println(binary()) -> nil.
println(Line) ->
    _ = put(?MODULE, [Line | lines()]),
    nil.

%% What this process printed since the last time.
-spec printed() -> [binary()].
printed() ->
    Lines = lists:reverse(lines()),
    _ = erase(?MODULE),
    Lines.

lines() ->
    case get(?MODULE) of
        undefined -> [];
        Lines -> Lines
    end.

%%% What the other node is told to run.

-spec greet(binary()) -> binary().
greet(Name) -> <<"hello ", Name/binary>>.

-spec fail(error | exit | throw, term()) -> no_return().
fail(Class, Reason) -> erlang:raise(Class, Reason, []).

-spec sleep_for_ever() -> no_return().
sleep_for_ever() -> receive after infinity -> ok end.

%% Registered under this name until somebody says something.
-spec answer_when_told(atom()) -> term().
answer_when_told(Name) ->
    true = register(Name, self()),
    receive Word -> Word end.
