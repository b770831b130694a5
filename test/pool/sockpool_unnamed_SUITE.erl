%%% Pools without a name: their references go where names go, and nothing is left of them.
-module(sockpool_unnamed_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([init/1]).
-export([not_started/1, everywhere/1, requests/1, piped/1, workers/1, refused/1, not_listed/1, after_a_crash/1, in_a_supervisor/1, freed_with_the_last_reference/1,
         come_and_go/1, names_are_free_again/1, stops_and_starts_of_a_name/1]).

-import(sockpool_test_util, [wait_until/1]).

-define(MANY, 10000).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [not_started, everywhere, requests, piped, workers, refused, not_listed, after_a_crash, in_a_supervisor, freed_with_the_last_reference, come_and_go,
     names_are_free_again, stops_and_starts_of_a_name].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {packet, line}, {backlog, 1024}]),
    {ok, Port} = inet:port(Listener),
    Server = spawn(fun() -> accept(Listener) end),
    ok = gen_tcp:controlling_process(Listener, Server),
    %% rebar3's handler keeps a case's reports, and with them the pools that these name.
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, none),
    [{level, Level}, {server, Server}, {options, #{host => "127.0.0.1", port => Port, size => 1, packet => line}} | Config].

end_per_suite(Config) ->
    ok = logger:set_primary_config(level, ?config(level, Config)),
    exit(?config(server, Config), kill).

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Echo = spawn(fun() -> receive go -> echo(Socket) end end),
    ok = gen_tcp:controlling_process(Socket, Echo),
    Echo ! go,
    accept(Listener).

echo(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Line} -> ok = gen_tcp:send(Socket, Line), echo(Socket);
        {error, closed} -> ok
    end.

%% What its options will say is not known yet.
not_started(_Config) ->
    Pool = sockpool:unnamed(),
    stopped(Pool),
    ?assertEqual([{error, not_found} || _ <- [1, 2]], [sockpool:request(Pool, "x", Length, 1000) || Length <- [packet, 1000]]).

everywhere(Config) ->
    {ok, Pool} = sockpool:start_pool(?config(options, Config)),
    {ok, Conn} = sockpool:checkout(Pool),
    ?assertMatch({ok, #{pool := Pool}}, sockpool:info(Conn)),
    ok = sockpool:checkin(Conn),
    {ok, Again} = sockpool:checkout(Pool, 1000),
    ok = sockpool:checkin(Again),
    ?assertEqual(fine, sockpool:transaction(Pool, fun(_) -> fine end)),
    ?assertEqual({ok, fine}, sockpool:execute(Pool, fun(_) -> fine end, 1000)),
    ?assertMatch({ok, #{name := Pool, checkouts := 4, size := 1}}, sockpool:stats(Pool)),
    ok = sockpool:resize(Pool, 2, 0),
    ok = sockpool:update(Pool, #{max_waiting => 0}),
    ?assertMatch({ok, #{size := 2, max_overflow := 0}}, sockpool:stats(Pool)),
    ?assertEqual({error, {bad_option, transport, tcp}}, sockpool:reload_tls(Pool)),
    ?assertEqual({error, {bad_option, transport, tcp}}, sockpool:call(Pool, erlang, node, [], 1000)),
    ?assertEqual({error, {bad_option, transport, tcp}}, sockpool:send_to(Pool, name, message)),
    ?assertMatch({error, {already_started, _}}, sockpool:start_pool(Pool, ?config(options, Config))),
    ok = sockpool:stop_pool(Pool),
    stopped(Pool),
    %% The same one once more, with other options.
    ok = sockpool:start_pool(Pool, (?config(options, Config))#{size => 3}),
    ?assertMatch({ok, #{size := 3, max_overflow := 10}}, sockpool:stats(Pool)),
    ok = sockpool:stop_pool(Pool),
    ?assertEqual({ok, unnamed_named}, sockpool:start_pool((?config(options, Config))#{name => unnamed_named})),
    ok = sockpool:stop_pool(unnamed_named).

stopped(Pool) ->
    ?assertEqual([{error, not_found} || _ <- [1, 2, 3, 4, 5, 6, 7]],
                 [sockpool:checkout(Pool), sockpool:request(Pool, "x\n", packet, 1000), sockpool:stats(Pool), sockpool:stop_pool(Pool),
                  sockpool:update(Pool, #{size => 2}), sockpool:execute(Pool, fun(_) -> ok end),
                  sockpool:call(Pool, erlang, node, [], 1000)]).

requests(Config) ->
    {ok, Pool} = sockpool:start_pool(?config(options, Config)),
    ?assertEqual({ok, <<"one\n">>}, sockpool:request(Pool, ["o", "ne\n"], packet, 5000)),
    ?assertEqual([{ok, <<"1\n">>}, {ok, <<"2\n">>}], sockpool:request_many(Pool, ["1\n", "2\n"], packet, 5000)),
    ?assertMatch({ok, #{pipelined := 0, checkouts := 3}}, sockpool:stats(Pool)),
    ok = sockpool:stop_pool(Pool).

piped(Config) ->
    {ok, Pool} = sockpool:start_pool((?config(options, Config))#{pipeline => 8}),
    ?assertEqual({ok, <<"one\n">>}, sockpool:request(Pool, ["o", "ne\n"], packet, 5000)),
    ?assertEqual([{ok, <<"1\n">>}, {ok, <<"2\n">>}], sockpool:request_many(Pool, ["1\n", "2\n"], packet, 5000)),
    ?assertMatch({ok, #{pipelined := 3}}, sockpool:stats(Pool)),
    ok = sockpool:stop_pool(Pool).

workers(_Config) ->
    {ok, Pool} = sockpool:start_pool(#{transport => worker, worker => {sockpool_test_worker, #{}}, size => 1}),
    ?assertEqual({ok, true}, sockpool:execute(Pool, fun is_process_alive/1)),
    ok = sockpool:stop_pool(Pool).

refused(Config) ->
    Options = ?config(options, Config),
    {ok, Pool} = sockpool:start_pool(Options),
    Others = [make_ref(), {Pool, node()}, {Pool, 'other@host'}],
    [?assertEqual([{error, {bad_argument, pool, Other}} || _ <- [1, 2, 3, 4, 5, 6, 7]],
                  [sockpool:checkout(Other), sockpool:request(Other, "x\n", packet, 1000), sockpool:stats(Other), sockpool:stop_pool(Other),
                   sockpool:update(Other, #{size => 2}), sockpool:start_pool(Other, Options), sockpool:execute(Other, fun(_) -> ok end)])
     || Other <- Others],
    [?assertEqual({error, {bad_argument, pool, Other}}, sockpool:start_link(Other, Options)) || Other <- Others],
    ?assertEqual({error, {bad_option, name, named}}, sockpool:start_pool(Pool, Options#{name => named})),
    ?assertEqual({error, {bad_option, size, -1}}, sockpool:start_pool(Options#{size => -1})),
    ?assertNotEqual(nomatch, string:find(sockpool:format_error({bad_argument, pool, {Pool, node()}}), "start_pool/1")),
    ok = sockpool:stop_pool(Pool).

not_listed(Config) ->
    {ok, Pool} = sockpool:start_pool(?config(options, Config)),
    ?assertEqual({ok, []}, sockpool:which_pools()),
    ?assertEqual({ok, []}, sockpool:stats()),
    ok = sockpool:stop_pool(Pool).

after_a_crash(Config) ->
    {ok, Pool} = sockpool:start_pool(?config(options, Config)),
    ok = sockpool:resize(Pool, 2, 0),
    Process = sockpool_nif:pool_controller(Pool),
    exit(Process, kill),
    wait_until(fun() -> not lists:member(sockpool_nif:pool_controller(Pool), [Process, undefined]) end),
    wait_until(fun() -> case sockpool:stats(Pool) of {ok, #{size := 2, idle := 2}} -> true; Other -> Other end end),
    ?assertEqual({ok, <<"works\n">>}, sockpool:request(Pool, "works\n", packet, 5000)),
    ok = sockpool:stop_pool(Pool),
    stopped(Pool).

%% The same pool, as often as it is started again.
in_a_supervisor(Config) ->
    Before = held(),
    in_a_process(fun() ->
        process_flag(trap_exit, true),
        Pool = sockpool:unnamed(),
        #{id := Id} = Spec = sockpool:child_spec(Pool, ?config(options, Config)),
        ?assertEqual({sockpool, Pool}, Id),
        {ok, Sup} = supervisor:start_link(?MODULE, {#{intensity => 10}, [Spec]}),
        ?assertEqual({ok, <<"works\n">>}, sockpool:request(Pool, "works\n", packet, 5000)),
        Process = sockpool_nif:pool_controller(Pool),
        exit(Process, kill),
        wait_until(fun() -> not lists:member(sockpool_nif:pool_controller(Pool), [Process, undefined]) end),
        ?assertEqual({ok, <<"works\n">>}, sockpool:request(Pool, "works\n", packet, 5000)),
        ?assertEqual({error, not_found}, sockpool:stop_pool(Pool)),
        true = exit(Sup, shutdown),
        receive {'EXIT', Sup, shutdown} -> ok end,
        stopped(Pool)
    end),
    nothing_is_left(Before).

freed_with_the_last_reference(Config) ->
    Before = held(),
    Self = self(),
    Keeper = spawn(fun() ->
        {ok, Pool} = sockpool:start_pool(?config(options, Config)),
        {ok, Conn} = sockpool:checkout(Pool),
        ok = sockpool:checkin(Conn),
        ok = sockpool:stop_pool(Pool),
        Self ! stopped,
        receive done -> stopped(Pool) end
    end),
    receive stopped -> ok end,
    _ = held(),
    ?assert(sockpool_nif:count(pools) >= 1),
    Keeper ! done,
    nothing_is_left(Before).

come_and_go(Config) ->
    Options = ?config(options, Config),
    Before = held(),
    in_a_process(fun() ->
        [begin
             {ok, Pool} = sockpool:start_pool(Options#{size => N rem 20 div 19}),
             _ = N rem 20 =:= 19 andalso ({ok, <<"hi\n">>} = sockpool:request(Pool, "hi\n", packet, 10000)),
             ok = sockpool:stop_pool(Pool)
         end || N <- lists:seq(1, ?MANY)]
    end),
    nothing_is_left(Before).

names_are_free_again(Config) ->
    Before = held(),
    in_a_process(fun() ->
        [begin
             Name = list_to_atom("named_" ++ integer_to_list(N)),
             ok = sockpool:start_pool(Name, ?config(options, Config)),
             {ok, <<"hi\n">>} = sockpool:request(Name, "hi\n", packet, 10000),
             ok = sockpool:stop_pool(Name),
             ?assertEqual({error, not_found}, sockpool:stats(Name))
         end || N <- lists:seq(1, 100)]
    end),
    nothing_is_left(Before).

%% Whoever has started it finds it, whatever others that have stopped it are doing.
stops_and_starts_of_a_name(Config) ->
    Before = held(),
    Options = ?config(options, Config),
    [receive {'DOWN', Monitor, process, Pid, Reason} -> ?assertEqual(normal, Reason) end
     || {Pid, Monitor} <- [spawn_monitor(fun() ->
                                                 process_flag(trap_exit, true),
                                                 live_and_die(300, Options#{size => 0})
                                         end) || _ <- [1, 2, 3]]],
    nothing_is_left(Before).

live_and_die(0, _Options) ->
    ok;
live_and_die(N, Options) ->
    case sockpool:start_link(live_and_die, Options) of
        {ok, Pid} ->
            ?assertMatch({ok, #{name := live_and_die}}, sockpool:stats(live_and_die)),
            exit(Pid, shutdown),
            receive {'EXIT', Pid, shutdown} -> live_and_die(N - 1, Options) end;
        {error, {already_started, _}} ->
            erlang:yield(),
            live_and_die(N, Options)
    end.

%% As a supervisor.
init(Specs) -> {ok, Specs}.

in_a_process(Fun) ->
    {Pid, Monitor} = spawn_monitor(Fun),
    receive {'DOWN', Monitor, process, Pid, Reason} -> ?assertEqual(normal, Reason) end.

%% Without what is garbage.
held() ->
    [_ = garbage_collect(Process) || Process <- processes()],
    %% Of others' there may be more at any time, such as where a line is logged for the first time.
    {sockpool_nif:count(pools), length([ours || Process <- processes(), element(1, proc_lib:translate_initial_call(Process)) =:= sockpool_pool]),
     length([ours || Table <- ets:all(), is_ours(ets:info(Table, name))]), length([ours || {{sockpool, _}, _} <- persistent_term:get()]),
     sockpool_test_util:descriptors(), length(supervisor:which_children(sockpool_sup))}.

is_ours(Name) -> is_atom(Name) andalso lists:prefix("sockpool", atom_to_list(Name)).

%% The other ends of connections are closed by the server.
nothing_is_left(Before) ->
    wait_until(fun() ->
                       Pairs = lists:zip(tuple_to_list(held()), tuple_to_list(Before)),
                       lists:all(fun({Now, Then}) -> Now =< Then end, Pairs) orelse {now_and_before, Pairs}
               end).
