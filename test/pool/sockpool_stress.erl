%%% Stress for a time: pools that are crashed, stopped and started, servers that reset and go away, clients that
%%% are killed, run out of time and exceed limits on purpose; and beside them a calm pool, of whose users none may
%%% notice anything. At the end every count is exact.
%%%
%%% Pools are `Name' or `{Name, Node}', so the same serves a VM and a daemon. SOCKPOOL_STRESS_SECONDS in the
%%% environment is for how long. main/0 is for a VM of its own, as scripts/asan_vm.sh starts it.
-module(sockpool_stress).

-export([main/0, run/1, seconds/0, crash/1]).

-type plan() :: #{calm := sockpool:pool(), victims := [sockpool:pool()],
                  %% made for one of the victims, besides what is made for all
                  trouble := fun((sockpool:pool()) -> ok), seed := non_neg_integer(),
                  seconds := pos_integer()}.

-define(CALM_CLIENTS, 8).
-define(CLIENTS, 40).
-define(CALM, #{size => 4, max_overflow => 0}).
-define(VICTIM, #{size => 3, max_overflow => 3, overflow_ttl => 50, backoff => {1, 20}, max_hold => 500,
                  max_waiting => 20, recv_limit => 65536, connect_timeout => 20000}).

-spec seconds() -> pos_integer().
seconds() -> list_to_integer(os:getenv("SOCKPOOL_STRESS_SECONDS", "5")).

%% @doc Ends the VM: 0 when all went well.
-spec main() -> no_return().
main() ->
    ok = logger:set_primary_config(level, none),
    {ok, _} = application:ensure_all_started(sockpool),
    Seed = sockpool_test_util:seed(),
    io:format("stress: ~b s, SOCKPOOL_SEED=~b~n", [seconds(), Seed]),
    try run(#{calm => calm, victims => [victim_1, victim_2], trouble => fun crash/1, seed => Seed,
              seconds => seconds()}) of
        Stats -> io:format("stress: exact: ~0p~n", [Stats]), halt(0)
    catch
        Class:Reason:Stack -> io:format("stress: FAILED: ~p~n", [{Class, Reason, Stack}]), halt(1)
    end.

%% @doc What the pools counted, once all of it is right.
-spec run(plan()) -> [map()].
run(#{calm := Calm, victims := Victims, trouble := Trouble, seed := Seed, seconds := Seconds}) ->
    _ = rand:seed(exsss, {Seed, 0, 0}),
    CalmServer = sockpool_test_server:start(),
    started(Calm, maps:merge(?CALM, sockpool_test_server:target(CalmServer))),
    Servers = [sockpool_test_server:start() || _ <- Victims],
    Plans = [{Victim, Server, maps:merge(?VICTIM, sockpool_test_server:target(Server))}
             || {Victim, Server} <- lists:zip(Victims, Servers)],
    [started(Victim, Opts) || {Victim, _, Opts} <- Plans],
    _ = sockpool_test_util:settled(Calm),
    Until = erlang:monotonic_time(millisecond) + Seconds * 1000,
    Peaceful = [sockpool_test_util:start(fun() -> peaceful(Calm, N, Until, 0) end)
                || N <- lists:seq(1, ?CALM_CLIENTS)],
    Clients = [sockpool_test_util:start(fun() -> client(Victims, {Seed, N, 1}, Until) end)
               || N <- lists:seq(1, ?CLIENTS)],
    make_trouble(Plans, Trouble, Until),
    Used = [sockpool_test_util:await(Job, 120000) || Job <- Peaceful],
    [ok = sockpool_test_util:await(Job, 120000) || Job <- Clients],
    CalmStats = unharmed(Calm, lists:sum(Used)),
    Stats = [exact(Victim) || Victim <- Victims],
    [ok = sockpool:stop_pool(Pool) || Pool <- [Calm | Victims]],
    [ok = sockpool_test_server:stop(Server) || Server <- [CalmServer | Servers]],
    [CalmStats | Stats].

started(Pool, Opts) ->
    case sockpool:start_pool(Pool, Opts) of
        ok -> ok;
        %% Of the same options: the process that crashed is on its way back.
        {error, {already_started, _}} -> ok
    end.

%%% The calm pool: every one of its clients gets its own bytes, each time.

peaceful(Pool, N, Until, Done) ->
    Data = <<N, Done:32, (rand:bytes(rand:uniform(300)))/binary>>,
    {ok, Data} = sockpool:request(Pool, Data, byte_size(Data), 60000),
    {ok, Data} = sockpool:execute(Pool, fun(Conn) -> {ok, Echo} = exchange(Conn, Data), Echo end, 60000),
    case erlang:monotonic_time(millisecond) < Until of
        true -> peaceful(Pool, N, Until, Done + 1);
        false -> 2 * (Done + 1)
    end.

exchange(Conn, Data) ->
    case sockpool:send(Conn, Data, 60000) of
        ok -> sockpool:recv(Conn, byte_size(Data), 60000);
        {error, _} = Error -> Error
    end.

%% So many uses, on the connections that it began with.
unharmed(Pool, Used) ->
    #{checkouts := Used, checkins := Used, created := 4, closed := 0, abandoned := 0, timeouts := 0,
      connect_failures := 0} = sockpool_test_util:settled(Pool).

%% Whatever was done to it, everything that was handed out has come back, and what was made is there or closed.
exact(Pool) ->
    #{checkouts := Out, checkins := In, abandoned := Abandoned, leased := 0, waiting := 0} = Stats =
        sockpool_test_util:settled(Pool),
    {Out, _} = {In + Abandoned, Stats},
    _ = sockpool_test_util:assert_adds_up(Pool),
    Stats.

%%% Trouble.

make_trouble(Plans, Trouble, Until) ->
    {Victim, Server, Opts} = lists:nth(rand:uniform(length(Plans)), Plans),
    case rand:uniform(6) of
        1 -> ok = sockpool_test_server:close_connections(Server);
        2 -> ok = sockpool_test_server:down(Server),
             ok = sockpool_test_server:up(Server);
        3 -> ok = flood(Victim);
        4 -> ok = too_long(Victim);
        5 -> ok = Trouble(Victim);
        6 -> _ = sockpool:stop_pool(Victim),
             started(Victim, Opts)
    end,
    receive after rand:uniform(20) -> ok end,
    case erlang:monotonic_time(millisecond) < Until of
        true -> make_trouble(Plans, Trouble, Until);
        false -> [started(Pool, PoolOpts) || {Pool, _, PoolOpts} <- Plans], ok
    end.

%% @doc Of a pool of this VM: its process. It comes back by itself.
-spec crash(atom()) -> ok.
crash(Pool) ->
    case sockpool_nif:pool_controller(sockpool_pool:find(Pool)) of
        Pid when is_pid(Pid) -> exit(Pid, kill), ok;
        undefined -> ok
    end.

%% More than may wait.
flood(Pool) ->
    Jobs = [sockpool_test_util:start(fun() -> brief(Pool) end) || _ <- lists:seq(1, 60)],
    [true = allowed(sockpool_test_util:await(Job, 120000)) || Job <- Jobs],
    ok.

brief(Pool) ->
    case sockpool:checkout(Pool, 20) of
        {ok, Conn} -> sockpool:checkin(Conn);
        Error -> Error
    end.

too_long(Pool) ->
    Length = 70000,
    case sockpool:request(Pool, binary:copy(<<0>>, Length), Length, 1000) of
        {error, Reason} -> true = Reason =:= emsgsize orelse allowed({error, Reason}), ok
    end.

%%% Clients of pools in trouble.

client(Pools, Seed, Until) ->
    _ = rand:seed(exsss, Seed),
    operations(Pools, Until).

operations(Pools, Until) ->
    Pool = lists:nth(rand:uniform(length(Pools)), Pools),
    Result = operation(rand:uniform(8), Pool),
    allowed(Result) orelse error({result, Pool, Result}),
    case erlang:monotonic_time(millisecond) < Until of
        true -> operations(Pools, Until);
        false -> ok
    end.

operation(N, Pool) when N =< 2 -> echo(Pool, rand:bytes(rand:uniform(200)), 10000);
operation(3, Pool) -> echo(Pool, <<"soon">>, rand:uniform(4) - 1);
operation(4, Pool) -> echo(Pool, rand:bytes(60000), 10000);
operation(5, Pool) -> killed(fun() -> sockpool:checkout(Pool, infinity) end);
operation(6, Pool) -> killed(fun() -> echo(Pool, <<"never told">>, infinity) end);
operation(7, Pool) -> given_back(Pool);
operation(8, Pool) -> with(Pool, fun(Conn) -> sockpool:recv(Conn, 1, rand:uniform(5) - 1) end).

echo(Pool, Data, Timeout) ->
    case sockpool:request(Pool, Data, byte_size(Data), Timeout) of
        {ok, Data} -> ok;
        {ok, Wrong} -> {wrong, byte_size(Wrong)};
        Error -> Error
    end.

given_back(Pool) ->
    Data = rand:bytes(100),
    with(Pool, fun(Conn) ->
                       case exchange(Conn, Data) of
                           {ok, Data} -> ok;
                           {ok, Wrong} -> {wrong, byte_size(Wrong)};
                           Error -> Error
                       end
               end).

with(Pool, Fun) ->
    case sockpool:checkout(Pool, lists:nth(rand:uniform(3), [0, 2, 10000])) of
        {ok, Conn} ->
            Result = Fun(Conn),
            Back = case rand:uniform(4) of
                       1 -> sockpool:discard(Conn);
                       _ -> sockpool:checkin(Conn)
                   end,
            true = allowed(Back),
            Result;
        Error ->
            Error
    end.

%% In the middle of what it does, or with what it has.
killed(Fun) ->
    {Pid, Monitor} = spawn_monitor(fun() -> _ = Fun(), receive after infinity -> ok end end),
    receive after rand:uniform(6) - 1 -> ok end,
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

allowed(ok) -> true;
allowed({ok, _}) -> true;
allowed({error, {unavailable, _}}) -> true;
allowed({error, Reason}) ->
    %% enotconn: the name of a peer that has reset the connection.
    lists:member(Reason, [timeout, full, closed, draining, not_found, econnreset, epipe, enotconn]);
allowed(_) -> false.
