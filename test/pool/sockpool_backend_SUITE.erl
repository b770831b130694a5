%%% Backends that are down, come back, hang, close idle connections or write to them.
-module(sockpool_backend_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([killed_and_restarted_under_load/1, resets_under_load/1, starts_while_down/1,
         comes_up_for_waiters/1, silent_backend/1]).
-export([closed_idle_connection_is_not_handed_out/1, stray_bytes_are_not_handed_out/1,
         close_is_noticed_without_traffic/1, stray_bytes_are_noticed_without_traffic/1,
         waiters_get_clean_connections_only/1]).
-export([validate_never/1, validate_after/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, stats/1, start/1, await/1, run_all/1,
                             elapsed_ms/1, us_since/1, assert_no_messages/0]).

-define(ID_BYTES, 32).

suite() -> [{timetrap, {minutes, 5}}].

all() ->
    [killed_and_restarted_under_load, resets_under_load, starts_while_down, comes_up_for_waiters,
     silent_backend, {group, side_by_side}].

groups() ->
    [{side_by_side, [parallel],
      [closed_idle_connection_is_not_handed_out, stray_bytes_are_not_handed_out,
       close_is_noticed_without_traffic, stray_bytes_are_noticed_without_traffic,
       waiters_get_clean_connections_only, validate_never, validate_after]}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) ->
    application:stop(sockpool).

init_per_testcase(Case, Config) -> [{pool, Case} | Config].

end_per_testcase(Case, _Config) ->
    lists:foreach(fun sockpool:stop_pool/1,
                  [Pool || Pool <- sockpool_test_util:pools(), lists:prefix(atom_to_list(Case), atom_to_list(Pool))]).

%%% Down and up again.

killed_and_restarted_under_load(Config) ->
    Server = sockpool_test_server:start(),
    Size = 10,
    BackoffMax = 200,
    Pool = started(Config, Server, #{size => Size, max_overflow => Size, overflow_ttl => 0,
                                     backoff => {10, BackoffMax}}),
    Done = counters:new(2, []),
    Workers = [start(fun() -> work(Pool, Done, #{}) end) || _ <- lists:seq(1, 40)],
    DownMs = [go_down_and_up(Pool, Server, Done, BackoffMax) || _ <- lists:seq(1, 4)],
    wait_for_replies(Done, 500),
    [Pid ! stop || {Pid, _, _} <- Workers],
    Outcomes = lists:foldl(fun(Worker, All) -> add(await(Worker), All) end, #{}, Workers),
    ct:pal("outcomes: ~p", [maps:to_list(Outcomes)]),
    #{total := Size, leased := 0, connect_attempts := Attempts,
      connect_failures := Failures} = settled(Pool),
    Accepted = sockpool_test_server:accepted(Server),
    ct:pal("~b attempts, ~b failed, ~b accepted, ~p ms down", [Attempts, Failures, Accepted, DownMs]),
    ?assertEqual([], maps:keys(Outcomes) -- [ok, closed, econnreset, epipe, timeout,
                                              {unavailable, econnrefused}]),
    %% What succeeded was accepted, or in the backlog when the server went down; the rest was a first
    %% herd each time, and then one after another with pauses of 100 ms on average.
    ?assert(Attempts - Failures =< Accepted + 4 * 2 * Size),
    ?assert(Failures =< 4 * (2 * Size + 10) + lists:sum(DownMs) div 20).

%% Works until it is told to stop. Any reply must be the worker's own.
work(Pool, Done, Outcomes) ->
    receive
        stop ->
            ok = assert_no_messages(),
            Outcomes
    after 0 ->
        Outcome = case rand:uniform(2) of
                      1 -> request_own(Pool);
                      2 -> checkout_own(Pool)
                  end,
        counters:add(Done, case Outcome of ok -> 1; _ -> 2 end, 1),
        work(Pool, Done, add(#{Outcome => 1}, Outcomes))
    end.

request_own(Pool) ->
    Id = id(),
    own(Id, sockpool:request(Pool, Id, byte_size(Id), 100)).

checkout_own(Pool) ->
    Id = id(),
    Use = fun(Conn) ->
                  case sockpool:send(Conn, Id, 1000) of
                      ok -> sockpool:recv(Conn, byte_size(Id), 1000);
                      Error -> Error
                  end
          end,
    case sockpool:execute(Pool, Use, 100) of
        {ok, Result} -> own(Id, Result);
        Error -> own(Id, Error)
    end.

own(Id, {ok, Id}) -> ok;
own(_Id, {error, Reason}) -> Reason;
own(Id, {ok, Other}) -> error({reply_of_another, Id, Other}).

add(Some, All) ->
    maps:fold(fun(Key, N, Sum) -> maps:update_with(Key, fun(M) -> M + N end, N, Sum) end,
              All, Some).

go_down_and_up(Pool, Server, Done, BackoffMax) ->
    wait_for_replies(Done, 500),
    Failures = stat(Pool, connect_failures),
    Errors = counters:get(Done, 2),
    Start = erlang:monotonic_time(microsecond),
    ok = sockpool_test_server:down(Server),
    wait_until(fun() -> stat(Pool, connect_failures) >= Failures + 8 end),
    wait_until(fun() -> counters:get(Done, 2) > Errors end),
    ok = sockpool_test_server:up(Server),
    DownMs = us_since(Start) div 1000,
    {BackMs, ok} = elapsed_ms(fun() -> wait_until(fun() -> stat(Pool, total)
                                                            - stat(Pool, connecting) >= 10 end) end),
    ct:pal("full ~b ms after the server was back (back-off up to ~b ms)", [BackMs, BackoffMax]),
    %% Twice the longest pause, and much room for a slow machine.
    ?assert(BackMs =< 2 * BackoffMax + 10000),
    DownMs.

wait_for_replies(Done, More) ->
    Target = counters:get(Done, 1) + More,
    wait_until(fun() -> counters:get(Done, 1) >= Target end).

%% Connections are reset while requests are under way on them, again and again.
resets_under_load(Config) ->
    Count = counters:new(1, []),
    Sometimes = {reply, fun(Data) ->
                                counters:add(Count, 1, 1),
                                case counters:get(Count, 1) rem 7 of
                                    0 -> close;
                                    3 -> {close, binary:part(Data, 0, 5)};
                                    _ -> Data
                                end
                        end},
    Server = sockpool_test_server:start(Sometimes),
    Pool = started(Config, Server, #{size => 5, max_overflow => 0, backoff => {1, 10}}),
    Outcomes = lists:append(run_all([fun() ->
                                             Mine = [request_own(Pool) || _ <- lists:seq(1, 50)],
                                             ok = assert_no_messages(),
                                             Mine
                                     end || _ <- lists:seq(1, 20)])),
    Kinds = lists:usort(Outcomes),
    ct:pal("~p", [[{Kind, length([x || O <- Outcomes, O =:= Kind])} || Kind <- Kinds]]),
    ?assert(lists:member(ok, Kinds) andalso lists:member(closed, Kinds)),
    ?assertEqual([], Kinds -- [ok, closed, econnreset, timeout]),
    ?assertMatch(#{total := 5}, settled(Pool)).

starts_while_down(Config) ->
    Server = sockpool_test_server:start(echo, #{listen => false}),
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, options(Server, #{size => 2, backoff => {10, 50}})),
    Unavailable = {error, {unavailable, econnrefused}},
    wait_until(fun() -> stat(Pool, connect_failures) > 0 end),
    {CheckoutMs, Checkout} = elapsed_ms(fun() -> sockpool:checkout(Pool, 200) end),
    ?assertEqual(Unavailable, Checkout),
    ?assert(CheckoutMs >= 200),
    ?assertEqual(Unavailable, sockpool:request(Pool, "x", 1, 100)),
    ?assertEqual(Unavailable, sockpool:execute(Pool, fun(_) -> not_run end, 100)),
    ?assertError({checkout, {unavailable, econnrefused}},
                 sockpool:transaction(Pool, fun(_) -> not_run end, 100)),
    ?assertEqual({error, full}, sockpool:checkout(Pool, 0)),
    ?assertEqual({error, full}, sockpool:request(Pool, "x", 1, 0)),
    ?assertMatch(#{idle := 0, leased := 0, created := 0, waiting := 0}, stats(Pool)),
    assert_no_messages().

comes_up_for_waiters(Config) ->
    Server = sockpool_test_server:start(echo, #{listen => false}),
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, options(Server, #{size => 3, max_overflow => 0,
                                                          backoff => {10, 100}})),
    Waiters = [start(fun() -> request_for_long(Pool) end) || _ <- lists:seq(1, 50)],
    wait_until(fun() -> stat(Pool, waiting) =:= 50 end),
    wait_until(fun() -> stat(Pool, connect_failures) >= 3 end),
    ok = sockpool_test_server:up(Server),
    ?assertEqual([], [Other || W <- Waiters, Other <- [await(W)], Other =/= ok]),
    ?assertMatch(#{total := 3, timeouts := 0}, settled(Pool)),
    %% And down once more: the next ones are told, in place of a plain time-out.
    ok = sockpool_test_server:down(Server),
    wait_until(fun() ->
                       case sockpool:checkout(Pool, 50) of
                           {ok, Conn} -> sockpool:discard(Conn);
                           Error -> Error =:= {error, {unavailable, econnrefused}}
                       end
               end).

request_for_long(Pool) ->
    Id = id(),
    own(Id, sockpool:request(Pool, Id, byte_size(Id), 20000)).

%% It accepts and reads but never answers: each request costs its connection, no more.
silent_backend(Config) ->
    Server = sockpool_test_server:start(silent),
    Pool = started(Config, Server, #{size => 3, max_overflow => 0, backoff => {1, 10}}),
    Results = run_all([fun() -> sockpool:request(Pool, "x", 1, 60) end || _ <- lists:seq(1, 9)]),
    ?assertEqual([{error, timeout}], lists:usort(Results)),
    ?assertMatch(#{total := 3}, settled(Pool)),
    ok = sockpool_test_server:down(Server),
    ok = sockpool_test_server:up(Server, echo),
    wait_until(fun() -> request_own(Pool) =:= ok end).

%%% Idle connections.

%% Over both transports.
both(Config, Options, Test) ->
    Tcp = sockpool_test_server:start(silent),
    Unix = sockpool_test_server:start(silent, #{path => sockpool_test_util:unix_path()}),
    run_all([fun() ->
                     ok = sockpool:start_pool(Name, options(Server, Options)),
                     #{total := Total} = settled(Name),
                     wait_until(fun() -> sockpool_test_server:accepted(Server) =:= Total end),
                     Test(Name, Server),
                     ok = sockpool:stop_pool(Name)
             end || {Name, Server} <- [{name(Config, "_tcp"), Tcp}, {name(Config, "_unix"), Unix}]]).

name(Config, Suffix) -> list_to_atom(atom_to_list(?config(pool, Config)) ++ Suffix).

%% The names of the idle connections, by which they can be told apart (a Unix socket's has none).
names(Pool, Count) ->
    Conns = [Conn || _ <- lists:seq(1, Count), {ok, Conn} <- [sockpool:checkout(Pool, 0)]],
    Count = length(Conns),
    Names = [Name || Conn <- Conns, {ok, Name} <- [sockpool:sockname(Conn)]],
    [ok = sockpool:checkin(Conn) || Conn <- Conns],
    Names.

closed_idle_connection_is_not_handed_out(Config) ->
    both(Config, #{size => 3, max_overflow => 0},
         fun(Pool, Server) ->
                 Names = names(Pool, 3),
                 ok = sockpool_test_server:close_connections(Server),
                 {ok, Conn} = sockpool:checkout(Pool),
                 {ok, Name} = sockpool:sockname(Conn),
                 ?assert(element(1, Name) =:= local orelse not lists:member(Name, Names)),
                 ?assertEqual({error, timeout}, sockpool:recv(Conn, 1, 0)),
                 ok = sockpool:discard(Conn),
                 ?assertMatch(#{closed := 4, total := 3}, settled(Pool))
         end).

stray_bytes_are_not_handed_out(Config) ->
    both(Config, #{size => 3, max_overflow => 0},
         fun(Pool, Server) ->
                 ok = sockpool_test_server:push(Server, "STRAY"),
                 Results = run_all([fun() ->
                                            {ok, Conn} = sockpool:checkout(Pool),
                                            Result = sockpool:recv(Conn, 0, 20),
                                            ok = sockpool:discard(Conn),
                                            Result
                                    end || _ <- lists:seq(1, 6)]),
                 ?assertEqual([{error, timeout}], lists:usort(Results)),
                 ?assertMatch(#{closed := 9, total := 3}, settled(Pool))
         end).

%% Nobody asks for a connection: after it has been idle for a second it is watched.
close_is_noticed_without_traffic(Config) ->
    noticed(Config, fun sockpool_test_server:close_connections/1).

stray_bytes_are_noticed_without_traffic(Config) ->
    noticed(Config, fun(Server) -> sockpool_test_server:push(Server, "STRAY") end).

%% Each connection has had a user: with `never', what comes before is the first one's.
noticed(Config, Do) ->
    both(Config, #{size => 5, max_overflow => 0, validate => never},
         fun(Pool, Server) ->
                 _ = names(Pool, 5),
                 Start = erlang:monotonic_time(microsecond),
                 ok = Do(Server),
                 wait_until(fun() -> stat(Pool, closed) =:= 5 end),
                 Young = us_since(Start) div 1000,
                 ?assertMatch(#{total := 5, created := 10}, settled(Pool)),
                 %% These have been idle for longer than a second when it happens.
                 wait_until(fun() -> sockpool_test_server:accepted(Server) =:= 10 end),
                 _ = names(Pool, 5),
                 receive after 1300 -> ok end,
                 Again = erlang:monotonic_time(microsecond),
                 ok = Do(Server),
                 wait_until(fun() -> stat(Pool, closed) =:= 10 end),
                 ct:pal("noticed ~b ms after it happened to a young connection, ~b ms to an old one",
                        [Young, us_since(Again) div 1000]),
                 ?assertMatch(#{total := 5, created := 15}, settled(Pool))
         end).

%% A connection that is dirty at check-in is not handed to those who wait.
waiters_get_clean_connections_only(Config) ->
    both(Config, #{size => 1, max_overflow => 0},
         fun(Pool, Server) ->
                 {ok, Conn} = sockpool:checkout(Pool),
                 Waiter = start(fun() ->
                                        sockpool:execute(Pool, fun(C) -> sockpool:recv(C, 0, 20) end,
                                                         10000)
                                end),
                 wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
                 ok = sockpool_test_server:push(Server, "STRAY"),
                 ok = sockpool:checkin(Conn),
                 ?assertEqual({ok, {error, timeout}}, await(Waiter)),
                 ?assertMatch(#{created := 3, closed := 2}, settled(Pool))
         end).

%%% The other modes of validate.

validate_never(Config) ->
    handed_out_dirty(Config, #{validate => never}).

handed_out_dirty(Config, Options) ->
    both(Config, Options#{size => 1, max_overflow => 0},
         fun(Pool, Server) ->
                 _ = names(Pool, 1),
                 ok = sockpool_test_server:push(Server, "STRAY"),
                 {ok, Conn} = sockpool:checkout(Pool),
                 ?assertEqual({ok, <<"STRAY">>}, sockpool:recv(Conn, 5)),
                 ok = sockpool:checkin(Conn)
         end).

%% Unchecked while it has been idle for less than that, checked after.
validate_after(Config) ->
    handed_out_dirty(Config, #{validate => {'after', 600000}}),
    both([{pool, validate_after_50} | Config],
         #{size => 1, max_overflow => 0, validate => {'after', 50}},
         fun(Pool, Server) ->
                 ok = sockpool_test_server:push(Server, "STRAY"),
                 receive after 100 -> ok end,
                 {ok, Conn} = sockpool:checkout(Pool),
                 ?assertEqual({error, timeout}, sockpool:recv(Conn, 5, 20)),
                 ok = sockpool:checkin(Conn)
         end).

%%% Helpers.

id() -> (sockpool_test_util:ids(?ID_BYTES))().

options(Server, More) -> maps:merge(sockpool_test_server:target(Server), More).

started(Config, Server, More) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, options(Server, More)),
    _ = settled(Pool),
    Pool.
