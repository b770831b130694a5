%%% Active checks of idle connections, wherever the pool is: sockets and workers, here, on another node and in the daemon. What
%%% is checked when is tested in C, by a clock of its own (test/c/core/pool/test_sp_check.c); a server that is gone without a
%%% word, in sockpool_silence_SUITE.
-module(sockpool_health_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2, init_per_testcase/2,
         end_per_testcase/2]).
-export([answered/1, in_pieces/1, framed/1, prefix/1, unanswered/1, wrong/1, too_much/1, changed/1, stopped/1,
         only_while_idle/1, refused/1, with_function/1, returns_error/1, raises/1, hangs/1, gives_back/1, uses_state/1,
         callers_wait/1, pool_crashes/1, pool_stops/1]).
-export([in_a_supervisor/1, forgotten_function/1]).
-export([ping/2]).

-import(sockpool_test_util, [wait_until/1, settled/1, stats/1, stat/2, start/1, await/1]).

-define(WAIT_MS, 60000).
%% A busy machine takes its time to answer.

ask() -> #{interval => 100, timeout => 5000, send => <<"ping\n">>, expect => <<"ping\n">>}.

suite() -> [{timetrap, {minutes, 3}}].

all() -> [{group, Group} || Group <- [tcp, unix, tls, worker, there, c_tcp, c_unix, c_tls]].

groups() ->
    Bytes = [answered, in_pieces, framed, prefix, unanswered, wrong, too_much, changed, stopped, only_while_idle, refused],
    Funs = [with_function, returns_error, raises, hangs, gives_back, callers_wait, pool_crashes, pool_stops],
    [{tcp, [parallel], Bytes ++ [uses_state, in_a_supervisor, forgotten_function | Funs]}, {unix, [parallel], Bytes}, {tls, [parallel], Bytes ++ Funs}, {worker, [parallel], Funs},
     {there, [parallel], [with_function | Bytes]}, {c_tcp, [parallel], Bytes}, {c_unix, [parallel], Bytes}, {c_tls, [parallel], Bytes}].

init_per_suite(Config) ->
    ok = sockpool_cluster:be_a_node(),
    sockpool_tls_kit:start(Config).

end_per_suite(Config) -> sockpool_tls_kit:stop(Config).

init_per_group(there, Config) -> [{transport, tcp}, {serving, sockpool_cluster:start_peer()} | Config];
init_per_group(c_tcp, Config) -> on_a_daemon(tcp, Config);
init_per_group(c_unix, Config) -> on_a_daemon(unix, Config);
init_per_group(c_tls, Config) -> on_a_daemon(tls, Config);
init_per_group(Transport, Config) -> [{transport, Transport} | Config].

on_a_daemon(Transport, Config) ->
    sockpool_c_daemon:if_built(fun() -> [{transport, Transport}, {serving, sockpool_c_daemon:start()} | Config] end).

end_per_group(Group, Config) ->
    case ?config(serving, Config) of
        undefined -> ok;
        Peer when Group =:= there -> sockpool_cluster:stop_peer(Peer);
        Daemon -> 0 = sockpool_c_daemon:stop(Daemon)
    end.

init_per_testcase(Case, Config) ->
    Name = list_to_atom(lists:concat([proplists:get_value(name, ?config(tc_group_properties, Config)), "_", Case])),
    Pool = case ?config(serving, Config) of
               undefined -> Name;
               #{node := Node} -> {Name, Node}
           end,
    [{pool, Pool}, {mode, atomics:new(2, [])} | Config].

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    ok.

%% Its specification shows nothing of what is sent.
in_a_supervisor(Config) ->
    Pool = ?config(pool, Config),
    #{start := {Module, Function, Args} = Start} = sockpool:child_spec(Pool, maps:merge(target(Config), #{size => 1, packet => line, health => ask()})),
    ?assertEqual(nomatch, string:find(io_lib:format("~p", [Start]), "ping")),
    {ok, Process} = apply(Module, Function, Args),
    wait_until(fun() -> stat(Pool, health_ok) > 1 end),
    true = unlink(Process),
    exit(Process, shutdown).

%% Its module was loaded twice: nothing is asked, and nothing is closed.
forgotten_function(Config) ->
    Module = sockpool_health_forgotten,
    Load = fun(Answer) ->
               {ok, Module, Code} = compile:forms([{attribute, 1, module, Module}, {attribute, 2, export, [{check, 0}]},
                                                   {function, 3, check, 0, [{clause, 3, [], [], [{'fun', 3, {clauses, [{clause, 3, [{var, 3, '_'}], [], [{atom, 3, Answer}]}]}}]}]}]),
               {module, Module} = code:load_binary(Module, "none", Code)
           end,
    {module, Module} = Load(ok),
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, maps:merge(target(Config), #{size => 1, health => #{check => Module:check(), interval => 100}})),
    wait_until(fun() -> stat(Pool, health_ok) > 1 end),
    ok = sockpool_test_log:hear(Pool),
    {module, Module} = Load(okay),
    _ = code:purge(Module),
    %% That of the old code killed nobody but, maybe, one that was checking.
    Line = sockpool_test_log:next_line(),
    ok = sockpool_test_log:forget(Pool),
    ?assertNotEqual({nomatch, Line}, {string:find(Line, "could not be made: badfun"), Line}),
    Before = stats(Pool),
    wait_until(fun() -> stat(Pool, idle) =:= 1 end),
    ?assertEqual(maps:with([health_ok, health_failed, closed], Before), maps:with([health_ok, health_failed, closed], stats(Pool))).

%%% A server that answers as it is told to.

-define(MODES, [echo, pieces, silent, wrong, too_much]).

mode(Config, Mode) ->
    {Before, _} = lists:splitwith(fun(Other) -> Other =/= Mode end, ?MODES),
    atomics:put(?config(mode, Config), 1, length(Before)).

target(Config) ->
    Self = self(),
    case ?config(transport, Config) of
        worker ->
            #{transport => worker, worker => {sockpool_test_worker, #{}}};
        Transport ->
            Server = spawn_link(fun() -> listen(Self, Transport, Config) end),
            receive {Server, Target} -> Target end
    end.

listen(Parent, tls, Config) ->
    {ok, Listener} = ssl:listen(0, [binary, {active, false}, {packet, raw}, {nodelay, true}, {backlog, 128}
                                    | sockpool_tls_kit:identity(Config, "server")]),
    {ok, {_, Port}} = ssl:sockname(Listener),
    Parent ! {self(), #{host => "localhost", port => Port, transport => tls, tls => #{cacertfile => sockpool_tls_kit:pem(Config, "ca")}}},
    accept(fun() -> {ok, Socket} = ssl:transport_accept(Listener), Socket end, ssl, Config);
listen(Parent, tcp, Config) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}, {backlog, 128}, {nodelay, true}]),
    {ok, Port} = inet:port(Listener),
    Parent ! {self(), #{host => {127, 0, 0, 1}, port => Port}},
    accept(fun() -> {ok, Socket} = gen_tcp:accept(Listener), Socket end, gen_tcp, Config);
listen(Parent, unix, Config) ->
    Path = sockpool_test_util:unix_path(),
    {ok, Listener} = gen_tcp:listen(0, [binary, {ifaddr, {local, Path}}, {active, false}, {backlog, 128}]),
    Parent ! {self(), #{transport => unix, path => Path}},
    accept(fun() -> {ok, Socket} = gen_tcp:accept(Listener), Socket end, gen_tcp, Config).

accept(Accept, Module, Config) ->
    Socket = Accept(),
    Pid = spawn_link(fun() -> receive go -> serve(Module, Socket, Config) end end),
    ok = Module:controlling_process(Socket, Pid),
    Pid ! go,
    accept(Accept, Module, Config).

%% A connection may be closed before its handshake is done.
serve(ssl, Accepted, Config) ->
    case ssl:handshake(Accepted) of
        {ok, Socket} -> answer(ssl, Socket, Config);
        {error, _} -> ok
    end;
serve(gen_tcp, Socket, Config) ->
    answer(gen_tcp, Socket, Config).

answer(Module, Socket, Config) ->
    case Module:recv(Socket, 0) of
        {ok, Bytes} ->
            ok = atomics:add(?config(mode, Config), 2, 1),
            Mode = lists:nth(1 + atomics:get(?config(mode, Config), 1), ?MODES),
            lists:foreach(fun(Piece) -> _ = Module:send(Socket, Piece) end, pieces(Mode, Bytes)),
            answer(Module, Socket, Config);
        {error, _} ->
            ok
    end.

pieces(echo, Bytes) -> [Bytes];
pieces(pieces, Bytes) -> [<<Byte>> || <<Byte>> <= Bytes];
pieces(silent, _Bytes) -> [];
pieces(wrong, <<First, Rest/binary>>) -> [<<(First + 1), Rest/binary>>];
pieces(too_much, Bytes) -> [[Bytes, "more"]].

started(Config, Opts) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, maps:merge(target(Config), Opts)),
    _ = settled(Pool),
    Pool.

checked(Pool, Count) -> wait_until(fun() -> stat(Pool, health_ok) >= Count orelse stats(Pool) end).

failed(Pool, Count) -> wait_until(fun() -> stat(Pool, health_failed) >= Count orelse stats(Pool) end).

%%% Bytes.

answered(Config) -> all_is_well(started(Config, #{size => 3, max_overflow => 0, health => ask()})).

all_is_well(Pool) ->
    ok = checked(Pool, 10),
    ?assertMatch(#{total := 3, leased := 0, checkouts := 0, checkins := 0, reused := 0, closed := 0, abandoned := 0, health_failed := 0},
                 stats(Pool)).

in_pieces(Config) ->
    ok = mode(Config, pieces),
    all_is_well(started(Config, #{size => 3, max_overflow => 0, health => ask()})).

framed(Config) ->
    ok = mode(Config, pieces),
    Pool = started(Config, #{size => 3, max_overflow => 0, packet => line, health => maps:to_list(ask())}),
    all_is_well(Pool).

prefix(Config) ->
    all_is_well(started(Config, #{size => 3, max_overflow => 0, health => (ask())#{expect := {prefix, <<"pi">>}}})).

%% One that does not answer is closed when its time is over, and so are all others.
unanswered(Config) ->
    Pool = started(Config, #{size => 4, max_overflow => 0, health => (ask())#{timeout := 300}}),
    ok = checked(Pool, 1),
    ok = mode(Config, silent),
    ok = failed(Pool, 4),
    ok = mode(Config, echo),
    #{health_ok := Ok} = stats(Pool),
    ok = checked(Pool, Ok + 10),
    ?assertMatch(#{total := 4, abandoned := 0, checkouts := 0}, settled(Pool)).

wrong(Config) ->
    ok = mode(Config, wrong),
    Pool = started(Config, #{size => 2, max_overflow => 0, health => ask()}),
    ok = failed(Pool, 3),
    ?assertMatch(#{health_ok := 0}, stats(Pool)).

too_much(Config) ->
    ok = mode(Config, too_much),
    Pool = started(Config, #{size => 2, max_overflow => 0, health => ask()}),
    ok = failed(Pool, 3),
    ?assertMatch(#{health_ok := 0}, stats(Pool)).

changed(Config) ->
    ok = mode(Config, wrong),
    Pool = started(Config, #{size => 3, max_overflow => 0}),
    ?assertEqual(ok, sockpool:update(Pool, #{health => (ask())#{expect := <<"qing\n">>}})),
    ok = checked(Pool, 3),
    ?assertMatch(#{closed := 0}, stats(Pool)),
    ?assertEqual(ok, sockpool:update(Pool, #{health => ask()})),
    ok = failed(Pool, 1),
    ?assertEqual(ok, sockpool:update(Pool, #{health => undefined})).

%% While checks are under way.
stopped(Config) ->
    ok = mode(Config, silent),
    Pool = started(Config, #{size => 20, max_overflow => 0, health => (ask())#{timeout := 60000}}),
    ok = wait_until(fun() -> atomics:get(?config(mode, Config), 2) > 0 end),
    ?assertEqual(ok, sockpool:stop_pool(Pool)),
    ?assertEqual({error, not_found}, sockpool:checkout(Pool, 1000)).

only_while_idle(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, health => ask()}),
    ok = checked(Pool, 1),
    {ok, Conn} = sockpool:checkout(Pool, ?WAIT_MS),
    #{health_ok := Before} = stats(Pool),
    ok = sockpool:send(Conn, "hello"),
    {ok, <<"hello">>} = sockpool:recv(Conn, 5, ?WAIT_MS),
    %% Three intervals.
    ?assertEqual({error, timeout}, sockpool:recv(Conn, 1, 300)),
    ?assertMatch(#{health_ok := Before, leased := 1}, stats(Pool)),
    ok = sockpool:checkin(Conn),
    ok = checked(Pool, Before + 1).

refused(Config) ->
    Target = target(Config),
    Pool = ?config(pool, Config),
    [begin
         {error, {bad_option, health, Shown} = Bad} = sockpool:start_pool(Pool, Target#{health => Wrong}),
         ?assertEqual(case is_atom(Wrong) orelse is_integer(Wrong) of true -> Wrong; false -> not_a_check end, Shown),
         ?assertNotEqual(nomatch, string:find(sockpool:format_error(Bad), "expect may be {prefix, Binary}"))
     end || Wrong <- [true, 1, #{}, [], #{send => <<"x">>}, #{expect => <<"x">>}, #{send => "x", expect => <<"x">>},
                      #{send => <<>>, expect => <<"x">>}, (ask())#{interval := 99}, (ask())#{timeout := 0}, (ask())#{timeout := infinity},
                      (ask())#{expect := {suffix, <<"x">>}}, (ask())#{expect := {prefix, <<>>}}, (ask())#{other => 1},
                      (ask())#{send := binary:copy(<<"x">>, 513)}, (ask())#{check => nonsense}]],
    ok.

%%% Functions.

%% On another node one that is exported there.
with_function(Config) ->
    Ping = {?MODULE, ping, [?config(transport, Config)]},
    Pool = started(Config, #{size => 2, max_overflow => 0, health => #{check => Ping, interval => 100, timeout => 5000}}),
    ok = checked(Pool, 5),
    ?assertMatch(#{total := 2, leased := 0, checkouts := 0, closed := 0, health_failed := 0}, stats(Pool)).

ping(Worker, worker) ->
    {echo, ping} = gen_server:call(Worker, ping),
    ok;
ping(Conn, _Transport) ->
    ok = sockpool:send(Conn, "ping"),
    {ok, <<"ping">>} = sockpool:recv(Conn, 4, 5000),
    ok.

fails(Config, Opts, Check) ->
    Pool = started(Config, #{size => 2, max_overflow => 0, health => maps:merge(#{check => Check, interval => 100, timeout => 5000}, Opts)}),
    ok = failed(Pool, 3),
    #{closed := Closed, health_failed := Failed} = Stats = stats(Pool),
    ?assert(Closed >= Failed - 1, Stats),
    ?assertMatch(#{health_ok := 0, abandoned := 0}, Stats).

returns_error(Config) -> fails(Config, #{}, fun(_) -> {error, no} end).

raises(Config) -> fails(Config, #{}, fun(_) -> error(no) end).

hangs(Config) ->
    Self = self(),
    fails(Config, #{timeout => 100}, fun(_) -> Self ! {hangs, self()}, receive never -> ok end end),
    receive {hangs, Pid} -> ok = dead(Pid) end.

dead(Pid) ->
    _Reason = sockpool_test_worker:await_dead(Pid),
    ok.

%% What is not its own to give.
gives_back(Config) ->
    Self = self(),
    Check = fun(Subject) ->
                    Self ! {given, case Subject of
                                       Worker when is_pid(Worker) -> [];
                                       Conn -> [sockpool:checkin(Conn), sockpool:checkin(Conn, clean), sockpool:discard(Conn),
                                                sockpool:give_away(Conn, Self)]
                                   end},
                    ok
            end,
    Pool = started(Config, #{size => 1, max_overflow => 0, health => #{check => Check, interval => 100, timeout => 5000}}),
    receive {given, Results} -> ?assertEqual([], lists:usort(Results) -- [{error, busy}]) end,
    ok = checked(Pool, 1),
    ?assertMatch(#{checkins := 0, closed := 0}, stats(Pool)).

uses_state(Config) ->
    Check = fun(Conn) ->
                    {ok, Count} = sockpool:state(Conn),
                    sockpool:set_state(Conn, Count + 1)
            end,
    Pool = started(Config, #{size => 1, max_overflow => 0, init => fun(_) -> {ok, 0} end,
                             health => #{check => Check, interval => 100, timeout => 5000}}),
    ok = checked(Pool, 3),
    {ok, Count} = sockpool:execute(Pool, fun(Conn) -> {ok, State} = sockpool:state(Conn), State end, ?WAIT_MS),
    ?assert(Count >= 3, Count).

%% Of the only connection, for as long as its check takes.
callers_wait(Config) ->
    Self = self(),
    Check = fun(_) -> Self ! {checking, self()}, receive go_on -> ok end end,
    Pool = started(Config, #{size => 1, max_overflow => 0, health => #{check => Check, interval => 100, timeout => ?WAIT_MS}}),
    Checker = receive {checking, Pid} -> Pid end,
    ?assertEqual({error, full}, sockpool:checkout(Pool, 0)),
    ?assertMatch(#{idle := 1, leased := 0}, stats(Pool)),
    Caller = start(fun() -> {ok, Conn} = sockpool:checkout(Pool, ?WAIT_MS), sockpool:checkin(Conn) end),
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    Checker ! go_on,
    ?assertEqual(ok, await(Caller)),
    ?assertMatch(#{created := 1, closed := 0, checkouts := 1}, stats(Pool)).

checkers(Config, Opts) ->
    Self = self(),
    Check = fun(_) -> Self ! {checking, self()}, receive go_on -> ok end end,
    Pool = started(Config, maps:merge(#{size => 20, max_overflow => 0, health => #{check => Check, interval => 100, timeout => ?WAIT_MS}}, Opts)),
    {Pool, [receive {checking, Pid} -> Pid end || _ <- [1, 2]]}.

pool_crashes(Config) ->
    {Pool, Checkers} = checkers(Config, #{}),
    true = exit(sockpool_nif:pool_controller(sockpool_pool:find(Pool)), kill),
    lists:foreach(fun dead/1, Checkers),
    ok = wait_until(fun() -> case sockpool:stats(Pool) of {ok, #{created := 40}} -> true; Other -> Other end end),
    ?assertMatch(#{total := 20, health_failed := 0}, settled(Pool)).

pool_stops(Config) ->
    {Pool, Checkers} = checkers(Config, #{}),
    ?assertEqual(ok, sockpool:stop_pool(Pool)),
    lists:foreach(fun dead/1, Checkers).
