%% @doc A server one of whose replies in a thousand takes 200 ms: what that costs those behind it on its
%% connection, by how many requests may be under way there. The table is for docs/protocols.md.
-module(sockpool_bench_slow).

-export([with_server/1, peers/0, peer/1, connections/0, pace_ms/1, table/1]).
-export_type([name/0]).

-type name() :: sockpool_slow_1 | sockpool_slow_4 | sockpool_slow_16 | sockpool_slow_64.

-define(BYTES, 64).
-define(EVERY, 1000).
-define(LATE_MS, 200).
-define(CONNECTIONS, 8).
%% Of all processes. One of the eight connections has a slow reply at any time.
-define(REQUESTS_PER_S, 5000).
-define(TIMEOUT_MS, 5000).

%% @doc Gives the fun the port of the server, which ends with it.
-spec with_server(fun((inet:port_number()) -> Result)) -> Result.
with_server(Use) ->
    Server = #{port := Port} = sockpool_bench_server:start({slow, ?BYTES, ?EVERY, ?LATE_MS}),
    try Use(Port)
    after sockpool_bench_server:stop(Server)
    end.

-spec peers() -> [name()].
peers() -> [sockpool_slow_1, sockpool_slow_4, sockpool_slow_16, sockpool_slow_64].

-spec connections() -> pos_integer().
connections() -> ?CONNECTIONS.

%% @doc How often each of so many processes asks.
-spec pace_ms(pos_integer()) -> pos_integer().
pace_ms(Processes) -> Processes * 1000 div ?REQUESTS_PER_S.

-spec peer(name()) -> sockpool_bench_peers:peer().
peer(Name) ->
    Pipeline = pipeline(Name),
    #{name => Name, label => "sockpool request, pipeline " ++ integer_to_list(Pipeline),
      sockets => fun(#{size := Size}, _Processes) -> Size end,
      start => fun(Target) -> sockpool_bench_pool:start(Target, #{pipeline => Pipeline}) end,
      stop => fun sockpool_bench_pool:stop/1,
      enter => fun(Pool, #{bytes := ?BYTES}, Payload) ->
                       fun() -> check(sockpool:request(Pool, Payload, ?BYTES, ?TIMEOUT_MS), Payload) end
               end}.

pipeline(sockpool_slow_1) -> 1;
pipeline(sockpool_slow_4) -> 4;
pipeline(sockpool_slow_16) -> 16;
pipeline(sockpool_slow_64) -> 64.

check({ok, Payload}, Payload) -> ok;
check({ok, _}, _) -> {error, wrong_reply};
check({error, Reason}, _) -> {error, Reason}.

%% @doc A row for each series, medians of the rounds. Late is what took longer than 100 ms.
-spec table([sockpool_bench_rounds:series()]) -> ok.
table(Series) ->
    io:format("~n| `pipeline` | processes | requests a second | p50 | p99 | p99.9 | late, of 1,000 |~n"
              "|---|---|---|---|---|---|---|~n"),
    lists:foreach(fun row/1, Series),
    io:nl().

row(Series = #{peer := Peer, processes := Processes}) ->
    Measured = sockpool_bench_rounds:measurements(Series),
    Median = fun(What) -> sockpool_bench_rounds:median([Value || #{What := Value} <- Measured, Value =/= undefined]) end,
    case Measured of
        [] ->
            io:format("| ~b | ~b | not measured |~n", [pipeline(Peer), Processes]);
        _ ->
            io:format("| ~b | ~b | ~b | ~s | ~s | ~s | ~s |~n",
                      [pipeline(Peer), Processes, round(Median(ops_per_s)), ms(Median(p50_us)), ms(Median(p99_us)),
                       ms(Median(p999_us)), short(1000 * Median(late))])
    end.

ms(Us) -> short(Us / 1000) ++ " ms".

short(Number) -> float_to_list(Number, [{decimals, 1}]).
