%%% Wrong options and wrong arguments, through every way in: each one gives a clear error that names
%%% what was wrong, and leaves the pool as it was. The NIFs themselves: sockpool_nif_SUITE.
-module(sockpool_bad_input_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([options_of_start_pool/1, options_of_start_link/1, options_of_child_spec/1,
         options_of_the_environment/1, names_of_pools/1, messages_name_the_value/1]).
-export([arguments_that_are_no_pool/1, arguments_that_are_no_timeout/1,
         arguments_that_are_no_conn/1, arguments_that_are_no_data/1,
         arguments_that_are_no_length/1, arguments_that_are_no_pid/1,
         arguments_that_are_no_fun/1]).
-export([conn_after_checkin/1, conn_of_another_process/1, conn_of_a_stopped_pool/1,
         conn_of_a_restarted_pool/1, old_handle_of_a_connection_in_use/1]).

-import(sockpool_test_util, [settled/1, start/1, await/1, assert_no_messages/0]).

all() ->
    [options_of_start_pool, options_of_start_link, options_of_child_spec,
     options_of_the_environment, names_of_pools, messages_name_the_value,
     arguments_that_are_no_pool, arguments_that_are_no_timeout, arguments_that_are_no_conn,
     arguments_that_are_no_data, arguments_that_are_no_length, arguments_that_are_no_pid,
     arguments_that_are_no_fun, conn_after_checkin, conn_of_another_process,
     conn_of_a_stopped_pool, conn_of_a_restarted_pool, old_handle_of_a_connection_in_use].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) ->
    application:stop(sockpool).

init_per_testcase(Case, Config) ->
    Server = sockpool_test_server:start(),
    [{server, Server}, {pool, Case} | Config].

end_per_testcase(_Case, _Config) ->
    lists:foreach(fun sockpool:stop_pool/1, sockpool_test_util:pools()),
    assert_no_messages().

%%% Options.

%% One wrong value of each wrong type, for each option, and options that do not exist.
wrong_options() ->
    [{host, 1}, {host, ""}, {host, {1, 2, 3}}, {host, undefined}, {host, [<<>>]},
     {port, 0}, {port, 65536}, {port, "80"}, {port, undefined},
     {path, "/tmp/x"}, {path, 1},
     {transport, udp}, {transport, "tcp"}, {node, 'b@h'}, {max_inflight, 0},
     {size, -1}, {size, ten}, {size, 1.0}, {size, 1000001},
     {max_overflow, -1}, {max_overflow, infinity},
     {overflow_ttl, -1}, {overflow_ttl, never},
     {strategy, random}, {strategy, "lifo"},
     {max_waiting, -1}, {max_waiting, none},
     {checkout_timeout, -1}, {checkout_timeout, 1.5}, {checkout_timeout, 16#100000000},
     {connect_timeout, 0}, {connect_timeout, infinity},
     {send_timeout, -1}, {send_timeout, undefined},
     {packet, 3}, {packet, http}, {packet, "line"},
     {nodelay, 1}, {keepalive, undefined},
     {sndbuf, 0}, {recbuf, "8k"},
     {bind, "127.0.0.1"}, {bind, {127, 0, 0}},
     {init, fun() -> ok end}, {init, {m, f}},
     {validate, true}, {validate, {'after', -1}}, {validate, {'after', infinity}},
     {max_hold, 0}, {max_hold, -1}, {leak_threshold, 999}, {slow_checkout, 0},
     {recv_limit, 0}, {recv_limit, infinity},
     {backoff, 100}, {backoff, {0, 1}}, {backoff, {2, 1}},
     {name, another}, {name, "a string"},
     %% Not what it is given: a password may be in that.
     {colour, red}, {"size", 1}, {{a, b}, c}, {opts, #{}}].

shown(Key, Value) ->
    case lists:member(Key, [colour, "size", {a, b}, opts]) of true -> not_shown; false -> Value end.

wrong_maps() ->
    [not_a_map, [size], [{size, 1} | x], [{size, 1, 1}], "size", <<>>, 1, {size, 1}].

options_of_start_pool(Config) ->
    every_wrong_option(Config, fun sockpool:start_pool/2).

options_of_start_link(Config) ->
    every_wrong_option(Config, fun sockpool:start_link/2).

every_wrong_option(Config, Start) ->
    Pool = ?config(pool, Config),
    Good = good(Config),
    [?assertEqual({error, {bad_option, Key, shown(Key, Value)}}, Start(Pool, Good#{Key => Value}))
     || {Key, Value} <- wrong_options()],
    [?assertEqual({error, {bad_option, opts, not_a_map}}, Start(Pool, Opts)) || Opts <- wrong_maps()],
    ?assertEqual({error, {bad_option, host, undefined}}, Start(Pool, maps:remove(host, Good))),
    ?assertEqual({error, {bad_option, port, undefined}}, Start(Pool, maps:remove(port, Good))),
    ?assertEqual({error, {bad_option, path, undefined}}, Start(Pool, #{transport => unix})),
    ?assertEqual({error, {bad_option, host, {127, 0, 0, 1}}},
                 Start(Pool, #{transport => unix, path => "/x", host => {127, 0, 0, 1}})),
    ?assertEqual({error, {bad_option, size, 0}}, Start(Pool, Good#{size => 0, max_overflow => 0})),
    ?assertEqual([], sockpool_test_util:pools()),
    ?assertEqual({error, not_found}, sockpool:stats(Pool)).

%% The specification is only data; what is wrong in it shows at the start of the supervisor's child.
options_of_child_spec(Config) ->
    Pool = ?config(pool, Config),
    Bad = (good(Config))#{packet => 3},
    {ok, Supervisor} = supervisor:start_link(sockpool_SUITE, []),
    ?assertMatch({error, {{bad_option, packet, 3}, _Child}},
                 supervisor:start_child(Supervisor, sockpool:child_spec(Pool, Bad))),
    ?assertEqual([], supervisor:which_children(Supervisor)),
    ok = gen_server:stop(Supervisor).

options_of_the_environment(Config) ->
    Pool = ?config(pool, Config),
    Good = good(Config),
    try
        [begin
             ok = application:stop(sockpool),
             ok = application:set_env(sockpool, pools, #{Pool => Good#{Key => Value}}),
             Started = application:start(sockpool),
             Shown = shown(Key, Value),
             ?assertMatch({error, {{_Words, {pool, Pool, {bad_option, Key, Shown}}}, _}}, Started),
             ok = application:set_env(sockpool, pools, #{}),
             ok = application:start(sockpool)
         end || {Key, Value} <- wrong_options()]
    after
        application:set_env(sockpool, pools, #{}),
        application:ensure_all_started(sockpool)
    end.

names_of_pools(Config) ->
    Good = good(Config),
    [?assertEqual({error, {bad_argument, pool, Name}}, Start(Name, Good))
     || Name <- ["pool", <<"pool">>, 1, {1, node()}, {pool, "node"}, undefined, {undefined, node()}, self()],
        Start <- [fun sockpool:start_pool/2, fun sockpool:start_link/2]],
    Supervisor = whereis(sockpool_sup),
    Unnamed = sockpool:child_spec(unnamed, Good),
    #{start := {Module, Function, [_ | Options]}} = Unnamed,
    ?assertEqual({error, {bad_argument, pool, "pool"}}, apply(Module, Function, ["pool" | Options])),
    ?assertEqual(Supervisor, whereis(sockpool_sup)).

%% What each error says in words: the option or argument, the value, and what is allowed.
messages_name_the_value(Config) ->
    Pool = ?config(pool, Config),
    Options = [Reason || {Key, Value} <- wrong_options(),
                         {error, Reason} <- [sockpool:start_pool(Pool, (good(Config))#{Key => Value})]],
    Arguments = [{bad_argument, Name, the_value}
                 || Name <- [pool, timeout, length, data, pid, opts, conn]],
    lists:foreach(fun({_, Key, Value} = Reason) ->
                          Words = lists:flatten(sockpool:format_error(Reason)),
                          Shown = lists:flatten(io_lib:format("~0tP", [Value, 30])),
                          ?assertNotEqual(nomatch, string:find(Words, key_words(Key))),
                          ?assertEqual({Reason, Words, is_shown(Key, Value, Words)},
                                       {Reason, Words, string:find(Words, Shown) =/= nomatch}),
                          ?assert(length(Words) > length(Shown) + 20)
                  end, Options ++ Arguments).

%% What may be a password is not, and of what is not given it is said that it is not.
is_shown(opts, _Value, _Words) -> true;
is_shown(_Key, not_shown, _Words) -> false;
is_shown(_Key, undefined, Words) -> string:find(Words, "is not given") =:= nomatch;
is_shown(_Key, _Value, _Words) -> true.

key_words(opts) -> "opts";
key_words(Key) -> lists:flatten(io_lib:format("~0tp", [Key])).

%%% Arguments.

garbage() ->
    [1, -1, 1.5, 1 bsl 70, "string", <<"binary">>, <<1:1>>, [], [a | b], {}, {1, node()}, #{},
     #{a => 1}, self(), make_ref(), fun() -> ok end, fun erlang:self/0, hd(erlang:ports())].

arguments_that_are_no_pool(_Config) ->
    Fun = fun(_) -> ct:fail(ran) end,
    Calls = [fun(P) -> sockpool:checkout(P) end, fun(P) -> sockpool:checkout(P, 0) end,
             fun(P) -> sockpool:checkout(P, infinity) end,
             fun(P) -> sockpool:execute(P, Fun) end, fun(P) -> sockpool:execute(P, Fun, 1) end,
             fun(P) -> sockpool:request(P, "x", 1, 100) end,
             fun(P) -> sockpool:request(P, "x", packet, infinity) end,
             fun(P) -> sockpool:stats(P) end, fun(P) -> sockpool:stop_pool(P) end,
             fun(P) -> sockpool:reload_tls(P) end],
    [?assertEqual({error, {bad_argument, pool, P}}, Call(P))
     || P <- [undefined, {undefined, node()}, {undefined, n@h} | garbage()], Call <- Calls],
    [?assertEqual({error, {bad_argument, pool, P}}, Call(P))
     || P <- [undefined, {undefined, node()}, {undefined, n@h}, "string", 1],
        Call <- [fun(To) -> sockpool:call(To, m, f, [], 1) end, fun(To) -> sockpool:send_to(To, x, y) end]],
    [?assertError({checkout, {bad_argument, pool, P}}, sockpool:transaction(P, Fun))
     || P <- garbage()],
    [?assertEqual({error, not_found}, Call(no_such_pool)) || Call <- Calls].

arguments_that_are_no_timeout(Config) ->
    Pool = started(Config, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    Fun = fun(_) -> ct:fail(ran) end,
    Calls = [fun(T) -> sockpool:checkout(Pool, T) end,
             fun(T) -> sockpool:execute(Pool, Fun, T) end,
             fun(T) -> sockpool:send(Conn, "x", T) end,
             fun(T) -> sockpool:recv(Conn, 1, T) end,
             fun(T) -> sockpool:request(Pool, "x", 1, T) end],
    Wrong = [16#100000000, never | garbage()] -- [1],
    [?assertEqual({error, {bad_argument, timeout, T}}, Call(T)) || T <- Wrong, Call <- Calls],
    [?assertError({checkout, {bad_argument, timeout, T}}, sockpool:transaction(Pool, Fun, T))
     || T <- Wrong],
    ok = sockpool:checkin(Conn),
    unharmed(Pool).

arguments_that_are_no_conn(Config) ->
    Pool = started(Config, #{}),
    PoolResource = persistent_term:get({sockpool, Pool}),
    Calls = [fun sockpool:checkin/1, fun sockpool:discard/1, fun sockpool:info/1,
             fun sockpool:peername/1, fun sockpool:sockname/1,
             fun(C) -> sockpool:send(C, "x") end, fun(C) -> sockpool:send(C, "x", 0) end,
             fun(C) -> sockpool:recv(C, 1) end, fun(C) -> sockpool:recv(C, 0, 0) end,
             fun(C) -> sockpool:give_away(C, self()) end,
             fun(C) -> sockpool:setopts(C, [{packet, raw}]) end,
             fun(C) -> sockpool:setopts(C, []) end],
    [?assertEqual({error, {bad_argument, conn, C}}, Call(C))
     || C <- [PoolResource, Pool, atom, {sockpool_conn, PoolResource, 0},
              {sockpool_conn, make_ref(), 0} | garbage()],
        Call <- Calls],
    %% Made up from a real one.
    {ok, {sockpool_conn, Resource, Generation} = Conn} = sockpool:checkout(Pool),
    [?assertEqual({error, closed}, Call({sockpool_conn, Resource, Generation + 1}))
     || Call <- Calls],
    [?assertEqual({error, {bad_argument, conn, C}}, Call(C))
     || C <- [Resource, {sockpool_conn, Resource}, {sockpool_conn, Resource, -1},
              {sockpool_conn, Resource, x}, {conn, Resource, Generation}],
        Call <- Calls],
    ok = sockpool:checkin(Conn),
    unharmed(Pool).

arguments_that_are_no_data(Config) ->
    Pool = started(Config, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    Wrong = [atom, 1, 1.5, {}, #{}, self(), [256], [-1], [atom], ["x", 1000], <<1:3>>,
             [<<1:7>>], [a | b], ["x" | atom]],
    [?assertEqual({error, {bad_argument, data, Data}}, Call(Data))
     || Data <- Wrong, Call <- [fun(D) -> sockpool:send(Conn, D) end,
                                fun(D) -> sockpool:send(Conn, D, 10) end,
                                fun(D) -> sockpool:request(Pool, D, 1, 10) end]],
    ok = sockpool:send(Conn, "clean"),
    ?assertEqual({ok, <<"clean">>}, sockpool:recv(Conn, 5)),
    ok = sockpool:checkin(Conn),
    unharmed(Pool).

arguments_that_are_no_length(Config) ->
    Pool = started(Config, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    Wrong = [raw, 1 bsl 64 | garbage()] -- [1],
    [?assertEqual({error, {bad_argument, length, Length}}, Call(Length))
     || Length <- Wrong, Call <- [fun(L) -> sockpool:recv(Conn, L) end,
                                  fun(L) -> sockpool:recv(Conn, L, 10) end,
                                  fun(L) -> sockpool:request(Pool, "x", L, 10) end]],
    %% Numbers that are too large are so for every recv_limit.
    [?assertEqual({error, emsgsize}, sockpool:recv(Conn, L)) || L <- [1 bsl 40, 1 bsl 63]],
    ok = sockpool:checkin(Conn),
    unharmed(Pool).

arguments_that_are_no_pid(Config) ->
    Pool = started(Config, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    Remote = binary_to_term(<<131, 103, 100, 0, 9, "other@far", 1:32, 0:32, 0>>),
    ?assertNotEqual(node(), node(Remote)),
    [?assertEqual({error, {bad_argument, pid, Pid}}, sockpool:give_away(Conn, Pid))
     || Pid <- [Remote, registered_name | garbage()] -- [self()]],
    ok = sockpool:checkin(Conn),
    unharmed(Pool).

%% A fun of another arity is a mistake in the program: it raises, as calling it does, and the
%% connection is not lost.
arguments_that_are_no_fun(Config) ->
    Pool = started(Config, #{}),
    [begin
         ?assertError(_, sockpool:transaction(Pool, NoFun)),
         ?assertError(_, sockpool:execute(Pool, NoFun, 1000))
     end || NoFun <- [fun() -> ok end, fun(_, _) -> ok end, atom, {m, f}, 1]],
    unharmed(Pool).

%%% Handles in the wrong state.

calls(Conn) ->
    [fun() -> sockpool:checkin(Conn) end, fun() -> sockpool:discard(Conn) end,
     fun() -> sockpool:send(Conn, "x") end, fun() -> sockpool:recv(Conn, 1) end,
     fun() -> sockpool:recv(Conn, 0, 0) end, fun() -> sockpool:info(Conn) end,
     fun() -> sockpool:peername(Conn) end, fun() -> sockpool:sockname(Conn) end,
     fun() -> sockpool:setopts(Conn, [{packet, line}]) end,
     fun() -> sockpool:give_away(Conn, self()) end].

every_call_says(Reason, Conn) ->
    ?assertEqual([{error, Reason} || _ <- calls(Conn)], [Call() || Call <- calls(Conn)]).

conn_after_checkin(Config) ->
    Pool = started(Config, #{}),
    {ok, A} = sockpool:checkout(Pool),
    ok = sockpool:checkin(A),
    every_call_says(closed, A),
    {ok, B} = sockpool:checkout(Pool),
    ok = sockpool:discard(B),
    every_call_says(closed, B),
    unharmed(Pool).

conn_of_another_process(Config) ->
    Pool = started(Config, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    Stranger = start(fun() -> every_call_says(not_owner, Conn) end),
    ok = await(Stranger),
    Heir = start(fun() ->
                         receive yours -> ok end,
                         ok = sockpool:send(Conn, "mine"),
                         {ok, <<"mine">>} = sockpool:recv(Conn, 4),
                         sockpool:checkin(Conn)
                 end),
    ok = sockpool:give_away(Conn, element(1, Heir)),
    every_call_says(not_owner, Conn),
    element(1, Heir) ! yours,
    ?assertEqual(ok, await(Heir)),
    every_call_says(not_owner, Conn),
    unharmed(Pool).

conn_of_a_stopped_pool(Config) ->
    Pool = started(Config, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:stop_pool(Pool),
    every_call_says(closed, Conn),
    ?assertEqual({error, not_found}, sockpool:checkout(Pool, infinity)),
    ?assertEqual({error, not_found}, sockpool:request(Pool, "x", 1, infinity)).

conn_of_a_restarted_pool(Config) ->
    Pool = started(Config, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:stop_pool(Pool),
    Pool = started(Config, #{}),
    every_call_says(closed, Conn),
    unharmed(Pool).

%% The handle of an ended lease does not reach the lease that the connection has now.
old_handle_of_a_connection_in_use(Config) ->
    Pool = started(Config, #{}),
    {ok, Old} = sockpool:checkout(Pool),
    {ok, Name} = sockpool:sockname(Old),
    ok = sockpool:checkin(Old),
    {ok, New} = sockpool:checkout(Pool),
    ?assertEqual({ok, Name}, sockpool:sockname(New)),
    every_call_says(closed, Old),
    ok = sockpool:send(New, "still mine"),
    ?assertEqual({ok, <<"still mine">>}, sockpool:recv(New, 10)),
    ok = sockpool:checkin(New),
    unharmed(Pool).

%%% Helpers.

good(Config) -> sockpool_test_server:target(?config(server, Config)).

started(Config, More) ->
    Pool = ?config(pool, Config),
    Options = maps:merge((good(Config))#{size => 1, max_overflow => 0}, More),
    ok = sockpool:start_pool(Pool, Options),
    _ = settled(Pool),
    Pool.

%% Nothing is lost, and the pool works.
unharmed(Pool) ->
    ?assertMatch(#{leased := 0, waiting := 0, total := 1}, settled(Pool)),
    ?assertEqual({ok, <<"works">>}, sockpool:request(Pool, "works", 5, 5000)),
    assert_no_messages().
