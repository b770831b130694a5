%%% sockpool_connections: what is told of connections, and that it may be asked while all of them are in use.
-module(sockpool_connections_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([states/1, connecting/1, of_workers/1, of_a_unix_socket/1, not_found/1, in_pieces/1, under_load/1]).

-import(sockpool_test_util, [wait_until/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [states, connecting, of_workers, of_a_unix_socket, not_found, in_pieces, under_load].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {backlog, 1024}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    Server = spawn(fun() -> accept(Listener) end),
    ok = gen_tcp:controlling_process(Listener, Server),
    [{server, Server}, {port, Port} | Config].

end_per_suite(Config) -> exit(?config(server, Config), kill).

accept(Listener) ->
    {ok, _} = gen_tcp:accept(Listener),
    accept(Listener).

init_per_testcase(Case, Config) -> [{pool, list_to_atom(lists:concat(["connections_", Case]))} | Config].

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    ok.

started(Config, Size, Options) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, maps:merge(#{host => {127, 0, 0, 1}, port => ?config(port, Config), size => Size}, Options)),
    ok = sockpool:await_ready(Pool, #{count => size, timeout => 30000}),
    Pool.

listed(Pool) ->
    {ok, Connections} = sockpool_connections:list(Pool),
    Connections.

states(Config) ->
    Pool = started(Config, 2, #{}),
    Self = self(),
    Peer = {{127, 0, 0, 1}, ?config(port, Config)},
    ?assertMatch([#{slot := 0, state := idle, peer := Peer, uses := 0, owner := undefined, held_ms := undefined, rtt_us := Rtt},
                  #{slot := 1, state := idle, peer := Peer, uses := 0}] when is_integer(Rtt), listed(Pool)),
    [begin {ok, Conn} = sockpool:checkout(Pool), ok = sockpool:checkin(Conn) end || _ <- [1, 2, 3]],
    ?assertEqual([0, 3], lists:sort([Uses || #{uses := Uses} <- listed(Pool)])),
    {ok, Conn} = sockpool:checkout(Pool),
    {Waited, ok} = timer:tc(fun() -> receive after 20 -> ok end end),
    [#{state := leased, owner := Self, uses := 4, held_ms := Held, idle_ms := undefined}] =
        [C || #{state := leased} = C <- listed(Pool)],
    ?assert(Held >= 19 andalso Held =< Waited div 1000 + 2000),
    [#{idle_ms := Idle, age_ms := Age}] = [C || #{state := idle} = C <- listed(Pool)],
    ?assert(Idle >= 19 andalso Age >= Idle),
    Heir = spawn(fun() -> receive done -> ok end end),
    ok = sockpool:give_away(Conn, Heir),
    ?assertMatch([#{owner := Heir}], [C || #{state := leased} = C <- listed(Pool)]),
    exit(Heir, kill),
    wait_until(fun() -> [] =:= [C || #{state := leased} = C <- listed(Pool)] end).

connecting(Config) ->
    Pool = ?config(pool, Config),
    Self = self(),
    Init = fun(_) -> Self ! {init, self()}, receive go -> ok end end,
    ok = sockpool:start_pool(Pool, #{host => {127, 0, 0, 1}, port => ?config(port, Config), size => 1, init => Init}),
    Connector = receive {init, Pid} -> Pid end,
    ?assertMatch([#{state := connecting, peer := undefined, owner := Connector, uses := 0, idle_ms := undefined}], listed(Pool)),
    Connector ! go,
    ok = sockpool:await_ready(Pool),
    ?assertMatch([#{state := idle, uses := 0}], listed(Pool)).

of_workers(Config) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, #{transport => worker, worker => {sockpool_test_worker, #{}}, size => 1}),
    ok = sockpool:await_ready(Pool),
    {ok, Conn} = sockpool:checkout(Pool),
    Worker = sockpool:worker(Conn),
    ?assertMatch([#{state := leased, peer := Worker, rtt_us := undefined}], listed(Pool)).

of_a_unix_socket(Config) ->
    Path = sockpool_test_util:unix_path(),
    {ok, _} = gen_tcp:listen(0, [{ifaddr, {local, Path}}]),
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, #{transport => unix, path => Path, size => 1}),
    ok = sockpool:await_ready(Pool),
    ?assertMatch([#{peer := {local, _}, rtt_us := undefined}], listed(Pool)),
    ok = file:delete(Path).

not_found(Config) ->
    ?assertEqual({error, not_found}, sockpool_connections:list(?config(pool, Config))),
    Pool = started(Config, 1, #{}),
    ok = sockpool:stop_pool(Pool),
    ?assertEqual({error, not_found}, sockpool_connections:list(Pool)).

%% One call tells no more than its allowance, and none is told twice.
in_pieces(Config) ->
    Pool = started(Config, 400, #{}),
    Pieces = pieces(sockpool_pool:find(Pool), 0),
    ?assert(length(Pieces) > 2),
    ?assertEqual(lists:seq(0, 399), lists:sort([element(1, Told) || Told <- lists:append(Pieces)])),
    ?assertEqual(lists:seq(0, 399), [Slot || #{slot := Slot} <- listed(Pool)]).

pieces(Pool, Cursor) ->
    case sockpool_nif:pool_connections(Pool, Cursor) of
        {Told, 0} -> [Told];
        {Told, More} -> [Told | pieces(Pool, More)]
    end.

%% Those who look disturb nobody, and are told of at most as many as there may be.
under_load(Config) ->
    Pool = started(Config, 8, #{max_overflow => 4, overflow_ttl => 0, replies => false}),
    Users = [sockpool_test_util:start(fun() -> use(Pool, 3000) end) || _ <- lists:seq(1, 16)],
    Lookers = [spawn_monitor(fun() -> look(Pool, 0) end) || _ <- [1, 2]],
    [ok = sockpool_test_util:await(User) || User <- Users],
    [begin
         Pid ! {stop, self()},
         receive {looked, Pid, Times} -> ?assert(Times > 10); {'DOWN', Monitor, process, Pid, Why} -> error(Why) end
     end || {Pid, Monitor} <- Lookers],
    wait_until(fun() -> lists:all(fun(#{state := State}) -> State =:= idle end, listed(Pool)) end),
    ?assertMatch({ok, #{checkouts := 48000, abandoned := 0}}, sockpool:stats(Pool)).

use(_Pool, 0) ->
    ok;
use(Pool, Times) ->
    {ok, Conn} = sockpool:checkout(Pool, 30000),
    ok = sockpool:checkin(Conn),
    use(Pool, Times - 1).

look(Pool, Times) ->
    Slots = [Slot || #{slot := Slot} <- listed(Pool)],
    true = Slots =:= lists:usort(Slots),
    receive
        {stop, From} -> From ! {looked, self(), Times}
    after 0 ->
        look(Pool, Times + 1)
    end.
