%% @doc What ageing costs those who wait for a connection: pools of ten whose connections take 150 ms to make and live for
%% two seconds, beside the same without an end, and with the rule that others have: closed at check-in, then opened anew.
%% A caller holds a connection for 10 ms; callers come independently of each other, so that some wait without ageing, too.
-module(sockpool_bench_ageing).

-export([peers/0, peer/1, connections/0, overflow/0, processes/0]).
-export_type([name/0]).

-type name() :: sockpool_ageless | sockpool_ageing | close_then_open.

-define(CONNECTIONS, 10).
-define(PROCESSES, 200).
-define(CONNECT_MS, 150).
-define(LIFETIME_MS, 2000).
%% What is too old may serve those who wait for a twentieth of its life more.
-define(LATE_MS, (?LIFETIME_MS + 200)).
-define(HOLD_MS, 10).
-define(TIMEOUT_MS, 5000).
-define(HANDED_LATE, 1).
-define(OPENED, 2).

-spec peers() -> [name()].
peers() -> [sockpool_ageing, sockpool_ageless, close_then_open].

-spec connections() -> pos_integer().
connections() -> ?CONNECTIONS.

%% @doc For the one that comes before an old one goes.
-spec overflow() -> pos_integer().
overflow() -> 1.

-spec processes() -> pos_integer().
processes() -> ?PROCESSES.

-spec peer(name()) -> sockpool_bench_peers:peer().
peer(sockpool_ageless) ->
    peer(sockpool_ageless, "sockpool, connections without an end", #{}, fun(_) -> infinity end);
peer(sockpool_ageing) ->
    peer(sockpool_ageing, "sockpool, max_lifetime", #{max_lifetime => ?LIFETIME_MS}, fun(_) -> infinity end);
peer(close_then_open) ->
    peer(close_then_open, "sockpool, closed at check-in when too old", #{}, fun(Born) -> Born + personal_end() end).

peer(Name, Label, Options, End) ->
    #{name => Name, label => Label,
      start => fun(Target) -> start(Target, Options, End) end,
      stop => fun(#{pool := Pool}) -> sockpool_bench_pool:stop(Pool) end,
      enter => fun enter/3,
      sockets => fun(_, _) -> ?CONNECTIONS + overflow() end,
      tally => fun tally/1}.

%% As max_lifetime draws it.
personal_end() -> ?LIFETIME_MS * 3 div 4 + rand:uniform(?LIFETIME_MS div 4).

start(Target, Options, End) ->
    Counters = counters:new(2, []),
    Init = fun(_Conn) ->
                   timer:sleep(?CONNECT_MS),
                   counters:add(Counters, ?OPENED, 1),
                   Born = erlang:monotonic_time(millisecond),
                   {ok, {Born, End(Born)}}
           end,
    Pool = sockpool_bench_pool:start(Target, Options#{init => Init}),
    #{pool => Pool, ages => maps:is_key(max_lifetime, Options), counters => Counters,
      waits => sockpool_bench_histogram:new(), hold_us => hold_us()}.

%% How long the VM makes of it.
hold_us() ->
    Times = [element(1, timer:tc(fun hold/0)) || _ <- lists:seq(1, 20)],
    lists:sum(Times) div length(Times).

hold() ->
    receive after ?HOLD_MS -> ok end.

enter(#{pool := Pool, waits := Waits, hold_us := HoldUs} = Shared, #{load := Load}, _Payload) ->
    ThinkMs = HoldUs / 1000 * (?PROCESSES / (Load * ?CONNECTIONS) - 1),
    fun() ->
            think(ThinkMs),
            Before = erlang:monotonic_time(),
            case sockpool:checkout(Pool, ?TIMEOUT_MS) of
                {ok, Conn} ->
                    ok = sockpool_bench_histogram:record(Waits, erlang:monotonic_time() - Before),
                    {ok, {Born, End}} = sockpool:state(Conn),
                    ok = handed(Shared, erlang:monotonic_time(millisecond) - Born),
                    hold(),
                    give_back(Conn, End);
                {error, Reason} ->
                    {error, Reason}
            end
    end.

%% Exponential: whoever comes knows nothing of the others.
think(MeanMs) ->
    receive after round(-MeanMs * math:log(1 - rand:uniform())) -> ok end.

handed(#{ages := true, counters := Counters}, AgeMs) when AgeMs > ?LATE_MS ->
    counters:add(Counters, ?HANDED_LATE, 1);
handed(_, _) ->
    ok.

give_back(Conn, End) ->
    case erlang:monotonic_time(millisecond) >= End of
        true -> sockpool:discard(Conn);
        false -> sockpool:checkin(Conn)
    end.

tally(#{waits := Waits, counters := Counters}) ->
    Snapshot = sockpool_bench_histogram:snapshot(Waits),
    #{wait_p50_us => sockpool_bench_histogram:percentile(0.5, Snapshot),
      wait_p99_us => sockpool_bench_histogram:percentile(0.99, Snapshot),
      handed_late => counters:get(Counters, ?HANDED_LATE),
      opened => counters:get(Counters, ?OPENED)}.
