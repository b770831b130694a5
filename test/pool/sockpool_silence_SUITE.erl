%%% Servers that are gone without a word: hosts in network namespaces, and a link between them that is cut, so that packets are
%%% dropped and nobody is told. Who notices: checks, keepalive, user_timeout, and a line in the log.
-module(sockpool_silence_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2, end_per_testcase/2]).
-export([fail_over/1, keepalive/1, unconfirmed/1, user_timeout/1, stalled/1]).
%% On the hosts.
-export([serve/0, start/2, stats/1, has/3, use/1, all_are_up/2, hold/1, let_use/1, log/2, log_here/0, await_line/1]).

-import(sockpool_hosts, [call/4]).
-import(sockpool_test_util, [wait_until/1, wait_until/2]).

-define(PORT, 7000).
-define(SIZE, 100).
-define(INTERVAL_MS, 2000).
-define(TIMEOUT_MS, 400).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [{group, Group} || Group <- [vm, c_node]].

groups() ->
    [{vm, [fail_over, keepalive, unconfirmed, user_timeout, stalled]}, {c_node, [fail_over, keepalive, user_timeout, stalled]}].

init_per_suite(Config) ->
    case sockpool_hosts:start() of
        {ok, #{hosts := [Host, Server, _]} = Net} ->
            ok = call(Server, ?MODULE, serve, []),
            {ok, _} = call(Host, application, ensure_all_started, [sockpool]),
            ok = call(Host, ?MODULE, log_here, []),
            [{net, Net}, {host, Host}, {server, Server} | Config];
        {skip, _} = Skip ->
            Skip
    end.

end_per_suite(Config) -> sockpool_hosts:stop(?config(net, Config)).

init_per_group(vm, Config) ->
    [{pool, silent} | Config];
init_per_group(c_node, Config) ->
    sockpool_c_daemon:if_built(fun() ->
        #{node := Node} = Daemon = sockpool_hosts:start_daemon(?config(host, Config)),
        [{pool, {silent, Node}}, {daemon, Daemon} | Config]
    end).

end_per_group(vm, _Config) -> ok;
end_per_group(c_node, Config) -> 0 = sockpool_c_daemon:stop(?config(daemon, Config)).

end_per_testcase(_Case, Config) ->
    ok = sockpool_hosts:mend(?config(net, Config), ?config(server, Config)),
    _ = call(?config(host, Config), sockpool, stop_pool, [?config(pool, Config)]).

on_host(Config, Function, Args) -> call(?config(host, Config), ?MODULE, Function, Args).

started(Config, Opts) ->
    #{address := Address} = ?config(server, Config),
    ok = on_host(Config, start, [?config(pool, Config), Opts#{host => Address, port => ?PORT, max_overflow => 0}]).

cut(Config) -> sockpool_hosts:cut(?config(net, Config), ?config(server, Config)).

%%% On the hosts.

serve() ->
    Self = self(),
    spawn(fun() ->
              {ok, Listener} = gen_tcp:listen(?PORT, [binary, {active, false}, {backlog, 1024}, {nodelay, true}]),
              Self ! listening,
              accept(Listener)
          end),
    receive listening -> ok end.

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Pid = spawn(fun() -> receive go -> echo(Socket) end end),
    ok = gen_tcp:controlling_process(Socket, Pid),
    Pid ! go,
    accept(Listener).

echo(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Bytes} -> _ = gen_tcp:send(Socket, Bytes), echo(Socket);
        {error, _} -> ok
    end.

start(Pool, #{size := Size} = Opts) ->
    ok = sockpool:start_pool(Pool, Opts),
    wait_until(fun() -> case stats(Pool) of #{idle := Size} -> true; Other -> Other end end).

stats(Pool) ->
    {ok, Stats} = sockpool:stats(Pool),
    Stats.

%% When it is so.
has(Pool, Counter, Count) ->
    ok = wait_until(fun() -> maps:get(Counter, stats(Pool)) >= Count orelse stats(Pool) end),
    now_ms().

%% Of all hosts, which are this machine.
now_ms() -> os:system_time(millisecond).

%% How many of the connections that there are work.
use(Pool) -> use(Pool, [], 0).

use(Pool, Taken, Working) ->
    case sockpool:checkout(Pool, 0) of
        {ok, Conn} ->
            ok = sockpool:send(Conn, "hello"),
            case sockpool:recv(Conn, 5, 3000) of
                {ok, <<"hello">>} -> use(Pool, [Conn | Taken], Working + 1);
                {error, _} -> use(Pool, [Conn | Taken], Working)
            end;
        {error, _} ->
            lists:foreach(fun sockpool:checkin/1, Taken),
            {length(Taken), Working}
    end.

%% A process that has a connection, and uses it when it is told to.
hold(Pool) ->
    Self = self(),
    Holder = spawn(fun() ->
                       true = register(?MODULE, self()),
                       {ok, Conn} = sockpool:checkout(Pool, 5000),
                       Self ! {self(), holds},
                       receive {use, From, WaitMs} -> From ! {self(), used(Conn, WaitMs)} end
                   end),
    receive {Holder, holds} -> ok end.

used(Conn, WaitMs) ->
    Begun = now_ms(),
    ok = sockpool:send(Conn, "hello"),
    Result = sockpool:recv(Conn, 5, WaitMs),
    _ = sockpool:discard(Conn),
    {Result, now_ms() - Begun}.

let_use(WaitMs) ->
    Holder = whereis(?MODULE),
    Holder ! {use, self(), WaitMs},
    receive {Holder, Result} -> Result end.

%% As a handler of logger.
log(Event, _Config) ->
    case sockpool_test_log:line(Event) of
        {ok, Line} -> true = ets:insert(?MODULE, {unicode:characters_to_binary(Line)}), ok;
        none -> ok
    end.

log_here() ->
    Self = self(),
    Keeper = spawn(fun() -> ?MODULE = ets:new(?MODULE, [named_table, public, bag]), Self ! {self(), made}, receive stop -> ok end end),
    receive {Keeper, made} -> ok end,
    logger:add_handler(?MODULE, ?MODULE, #{}).

await_line(Words) ->
    wait_until(fun() -> lists:any(fun({Line}) -> string:find(Line, Words) =/= nomatch end, ets:tab2list(?MODULE))
                            orelse ets:tab2list(?MODULE) end).

%%% The cases.

%% Claim: 100 idle connections are gone within the interval and three times the timeout, and then nobody meets one of them.
fail_over(Config) ->
    Pool = ?config(pool, Config),
    ok = started(Config, #{size => ?SIZE, health => #{interval => ?INTERVAL_MS, timeout => ?TIMEOUT_MS, send => <<"ping">>,
                                                      expect => <<"ping">>}}),
    _ = on_host(Config, has, [Pool, health_ok, 2 * ?SIZE]),
    ?assertMatch(#{health_failed := 0, closed := 0}, on_host(Config, stats, [Pool])),
    {?SIZE, ?SIZE} = on_host(Config, use, [Pool]),
    Before = now_ms(),
    ok = cut(Config),
    Took = on_host(Config, has, [Pool, closed, ?SIZE]) - Before,
    ct:pal("~b idle connections, a check in ~b ms, ~b ms to answer: all were closed ~b ms after the link was cut; at most ~b",
           [?SIZE, ?INTERVAL_MS, ?TIMEOUT_MS, Took, ?INTERVAL_MS + 3 * ?TIMEOUT_MS]),
    %% And what a busy machine takes to see it.
    ?assert(Took =< ?INTERVAL_MS + 3 * ?TIMEOUT_MS + 300, Took),
    ?assertEqual({0, 0}, on_host(Config, use, [Pool])),
    ok = sockpool_hosts:mend(?config(net, Config), ?config(server, Config)),
    ok = on_host(Config, all_are_up, [Pool, ?SIZE]),
    ?assertEqual({?SIZE, ?SIZE}, on_host(Config, use, [Pool])).

all_are_up(Pool, Size) -> wait_until(fun() -> case stats(Pool) of #{idle := Size} -> true; Other -> Other end end, 60000).

keepalive(Config) ->
    ok = started(Config, #{size => 3, keepalive => #{idle => 1, interval => 1, count => 2}}),
    ok = cut(Config),
    _ = on_host(Config, has, [?config(pool, Config), closed, 3]).

%% That is not what keepalive is for.
unconfirmed(Config) ->
    ok = started(Config, #{size => 1, keepalive => #{idle => 1, interval => 1, count => 2}, user_timeout => 60000}),
    ok = on_host(Config, hold, [?config(pool, Config)]),
    ok = cut(Config),
    ?assertMatch({{error, timeout}, _}, on_host(Config, let_use, [8000])).

user_timeout(Config) ->
    ok = started(Config, #{size => 1, user_timeout => 1500}),
    ok = on_host(Config, hold, [?config(pool, Config)]),
    ok = cut(Config),
    {{error, etimedout}, Took} = on_host(Config, let_use, [60000]),
    ct:pal("unconfirmed for 1500 ms: ended after ~b", [Took]),
    ?assert(Took >= 1400, Took).

stalled(Config) ->
    ok = started(Config, #{size => 1}),
    ok = on_host(Config, hold, [?config(pool, Config)]),
    ok = cut(Config),
    Self = self(),
    Using = spawn_link(fun() -> Self ! {self(), on_host(Config, let_use, [20000])} end),
    _ = case ?config(daemon, Config) of
        undefined -> on_host(Config, await_line, ["on which nothing gets through"]);
        Daemon -> sockpool_c_daemon:await_line(Daemon, "event=stalled")
    end,
    ok = sockpool_hosts:mend(?config(net, Config), ?config(server, Config)),
    receive {Using, {{ok, <<"hello">>}, _}} -> ok end.
