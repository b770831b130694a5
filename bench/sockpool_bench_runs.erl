%% @doc What each run measures.
-module(sockpool_bench_runs).

-export([about/1, run/1]).

-define(BYTES, 64).
-define(BULK_BYTES, (1 bsl 20)).

%% @doc A line for the reader.
-spec about(sockpool_bench:name()) -> string().
about(headline) ->
    "operations at once with 62 ephemeral ports: connect per request against pools of 10 + 52, and pipelined";
about(baseline_no_pool) ->
    "connect per request with 62 ephemeral ports";
about(checkout) ->
    "checkout + checkin without I/O, 100 connections (one operation in 16 is timed)";
about(counting) ->
    "checkout + checkin without I/O, beside a library without histograms, each in VMs of its own";
about(workers) ->
    "pools of 100 processes: checkout + checkin (one in 16 is timed), a call of the worker, starts, memory";
about(echo) ->
    "requests and replies of 64 bytes, 100 connections";
about(pipeline) ->
    "requests and replies of 64 bytes, many on each of a few connections, beside one at a time on 100";
about(slow_reply) ->
    "one reply in 1000 takes 200 ms, 5000 requests a second over 8 connections: by how many are under way on each";
about(ageing) ->
    "10 connections that live for 2 s and take 150 ms to make, at 70 % and 95 % of what they can do: how long callers wait";
about(redis) ->
    "a redis-server: GET of 64 bytes; and 1000 processes that do 100 SET and 100 GET each";
about(pool_10_conns) ->
    "1000 operations at once, pools of 10 + 90";
about(pool_50_conns) ->
    "5000 operations at once, pools of 50 + 450";
about(pool_100_conns) ->
    "10000 operations at once, pools of 100 + 900";
about(scaling_test) ->
    "1000 processes, pools of 1 to 500 connections";
about(leak_test) ->
    "100000 requests, then 5000 owners killed at random moments";
about(head_of_line) ->
    "calls of 64 bytes to another node, while messages of 64 MiB travel to it and without";
about(memory) ->
    "memory of an idle connection";
about(tls) ->
    "TLS 1.3: requests and replies of 64 bytes and 1 MiB, handshakes, memory, timers";
about(c_node) ->
    "calls of the C node beside a gen_server on an Erlang node, requests of 64 bytes through both, and handshakes";
about(c_pipeline) ->
    "requests and replies of 64 bytes through the C node, many on each connection of its pool beside one at a time";
about(Concurrent) ->
    atom_to_list(Concurrent) ++ ": that many operations at once, pools of 100".

-spec run(sockpool_bench:name()) ->
          {[sockpool_bench_rounds:series()], [sockpool_bench_report:check()]}.
run(headline) ->
    Place = sockpool_bench_ns:find(),
    Peers = [sockpool_request, sockpool_piped, poolboy, connect],
    %% Of the last one the throughput is judged as well.
    {bursts_in(Place, headline, Peers, [62, 100, 200, 620, 1000, 2000], 1) ++
     bursts_in(Place, headline, Peers, [6200], rounds()), []};
run(baseline_no_pool) ->
    {bursts_in(sockpool_bench_ns:find(), baseline_no_pool, [connect], [50, 100, 200], 1), []};
run(checkout) ->
    {repeat(checkout, 16, [cell(Processes, 100, 0, sockpool_bench_peers:checkout())
                           || Processes <- [1, 2, 62, 100, 1000]]), []};
run(counting) ->
    ok = sockpool_bench_counting:build(),
    Measure = fun(Peer, #{processes := Processes, target := Target}) ->
                      Options = #{processes => Processes, warmup_ms => 300, window_ms => setting("BENCH_WINDOW_MS", 700),
                                  timed_every => 16},
                      sockpool_bench_counting:repeat(Peer, {Target, Options})
              end,
    {sockpool_bench_rounds:alternate(counting, [cell(Processes, 100, 0, sockpool_bench_counting:peers())
                                                || Processes <- [1, 62, 1000]], 3 * rounds(), Measure), []};
run(workers) ->
    {repeat(workers, 16, [worker_cell(Processes, sockpool_bench_peers:worker_checkout())
                          || Processes <- [1, 62, 100, 1000, 6200]]) ++
     repeat(workers_call, 1, [worker_cell(Processes, sockpool_bench_peers:worker_transaction())
                              || Processes <- [1, 62, 100, 1000, 6200]]) ++
     sockpool_bench_rounds:alternate(workers_start, [worker_cell(1, [sockpool_worker_starts])], rounds(),
                                     fun sockpool_bench_workers:starts/2),
     sockpool_bench_workers:memory()};
run(echo) ->
    {repeat(echo, 1, [cell(Processes, 100, 0, sockpool_bench_peers:echo())
                      || Processes <- [1, 10, 62, 100, 620, 1000, 6200]]), []};
run(pipeline) ->
    {repeat(pipeline, 1, [cell(Processes, 100, 0, sockpool_bench_peers:pipeline())
                          || Processes <- [1, 10, 62, 100, 1000, 6200, 10000]]), []};
run(slow_reply) ->
    Series = sockpool_bench_slow:with_server(fun slow_reply_at/1),
    ok = sockpool_bench_slow:table(Series),
    {Series, []};
run(ageing) ->
    {ageing(ageing_70, 0.7, sockpool_bench_ageing:peers()) ++ ageing(ageing_95, 0.95, [sockpool_ageing]), []};
run(redis) ->
    {redis(sockpool_bench_redis:missing()), []};
run(scaling_test) ->
    {repeat(scaling_test, 1, [cell(1000, Connections, 0, sockpool_bench_peers:pools())
                              || Connections <- [1, 10, 50, 100, 500]]), []};
run(pool_10_conns) -> burst(pool_10_conns, 1000, 10, 90);
run(pool_50_conns) -> burst(pool_50_conns, 5000, 50, 450);
run(pool_100_conns) -> burst(pool_100_conns, 10000, 100, 900);
run(concurrent_1000) -> burst(concurrent_1000, 1000, 100, 0);
run(concurrent_6200) -> burst(concurrent_6200, 6200, 100, 0);
run(concurrent_10000) -> burst(concurrent_10000, 10000, 100, 0);
run(tls) -> tls();
run(c_node) ->
    {repeat(c_node, 1, [cell(Processes, 10, 0, sockpool_bench_peers:served())
                        || Processes <- [1, 8, 62]]) ++
     repeat(c_node_join, 1, [cell(1, 1, 0, sockpool_bench_peers:joins())]), []};
run(c_pipeline) ->
    {repeat(c_pipeline, 1, [cell(Processes, 100, 0, sockpool_bench_peers:c_pipeline())
                            || Processes <- [1, 8, 62, 1000]]), []};
run(head_of_line) -> {head_of_line(), []};
run(leak_test) -> {[], sockpool_bench_leak:leak_test()};
run(memory) -> {[], sockpool_bench_leak:memory()}.

cell(Processes, Size, Overflow, Peers) ->
    #{processes => Processes, peers => Peers,
      target => #{transport => tcp, size => Size, max_overflow => Overflow, bytes => ?BYTES}}.

worker_cell(Processes, Peers) ->
    Cell = #{target := Target} = cell(Processes, 100, 0, Peers),
    Cell#{target => Target#{transport => worker}}.

%% Five slow replies come in a second: the window is longer, for enough of them.
slow_reply_at(Port) ->
    WindowMs = 6 * setting("BENCH_WINDOW_MS", 700),
    Cells = [begin
                 Cell = #{target := Target} = cell(Processes, sockpool_bench_slow:connections(), 0, sockpool_bench_slow:peers()),
                 Cell#{target => Target#{port => Port}}
             end || Processes <- [62, 1000]],
    Measure = fun(Peer, #{processes := Processes, target := Target}) ->
                      Options = #{processes => Processes, warmup_ms => 500, window_ms => WindowMs, timed_every => 1,
                                  pace_ms => sockpool_bench_slow:pace_ms(Processes)},
                      sockpool_bench_load:repeat(Peer, Target, Options)
              end,
    sockpool_bench_rounds:alternate(slow_reply, Cells, rounds(), Measure).

%% Long enough for several lives of each connection.
-define(AGEING_WINDOWS, 17).

ageing(Run, Load, Peers) ->
    Cell = #{target := Target} = cell(sockpool_bench_ageing:processes(), sockpool_bench_ageing:connections(),
                                      sockpool_bench_ageing:overflow(), Peers),
    repeat(Run, 1, [Cell#{target => Target#{load => Load}}], ?AGEING_WINDOWS).

redis([]) ->
    sockpool_bench_redis:with_server(fun redis_at/1);
redis(Missing) ->
    io:format("NOT RUN: it needs the Debian packages~s.~n", [[[" ", Package] || Package <- Missing]]),
    [].

redis_at(Port) ->
    Cell = fun(Processes, Peers) ->
                   Cell = #{target := Target} = cell(Processes, 50, 0, Peers),
                   Cell#{target => Target#{port => Port}}
           end,
    Whole = fun(Peer, #{processes := Processes, target := Target}) ->
                    sockpool_bench_redis:whole(Peer, Target, Processes)
            end,
    repeat(redis, 1, [Cell(Processes, sockpool_bench_redis:gets()) || Processes <- [1, 62, 1000]]) ++
        sockpool_bench_rounds:alternate(redis_whole, [Cell(1000, sockpool_bench_redis:wholes())], rounds(), Whole).

%% Series of several names: what they measure does not compare.
tls() ->
    ok = sockpool_bench_certificates:make(),
    {ok, _} = application:ensure_all_started(ssl),
    Protection = sockpool_bench_tls_checks:protection(),
    Series = repeat(tls_echo, 1, [tls_cell(Processes, 100, ?BYTES, sockpool_bench_peers:tls_echo())
                                  || Processes <- [1, 10, 100, 1000]]) ++
        repeat(tls_bulk, 1, [tls_cell(Processes, 10, ?BULK_BYTES, sockpool_bench_peers:tls_echo())
                             || Processes <- [1, 4]]) ++
        repeat(tls_handshake, 1, [tls_cell(Processes, 10, ?BYTES, sockpool_bench_peers:handshakes())
                                  || Processes <- [1, 10]]) ++
        opened(tls_memory, 100, [sockpool_open, ssl_open], fun sockpool_bench_opening:memory/2) ++
        opened(tls_timer, 200, [sockpool_open, ssl_open, nothing],
               fun sockpool_bench_opening:timers/2),
    {Series, [Protection | sockpool_bench_tls_checks:memory(Series)]}.

%% A call behind a large message takes milliseconds: the window is longer, for enough of them.
-define(SLOW_WINDOWS, 4).

head_of_line() ->
    Nodes = sockpool_bench_nodes:start(),
    try
        Cells = [#{processes => Processes, peers => sockpool_bench_peers:calls(),
                   target => #{transport => node, node => sockpool_bench_nodes:other(Nodes),
                               size => 4, max_overflow => 0, bytes => ?BYTES}}
                 || Processes <- [1, 4, 16]],
        on_nodes(head_of_line, Cells, Nodes, loaded, ?SLOW_WINDOWS) ++
            on_nodes(head_of_line_free, Cells, Nodes, free, 1)
    after
        sockpool_bench_nodes:stop(Nodes)
    end.

on_nodes(Run, Cells, Nodes, Way, Windows) ->
    WindowMs = Windows * setting("BENCH_WINDOW_MS", 700),
    Measure = fun(Peer, #{processes := Processes, target := Target}) ->
                      Options = #{processes => Processes, warmup_ms => 200, window_ms => WindowMs,
                                  timed_every => 1},
                      sockpool_bench_nodes:measure(Nodes, Way, Peer, Target, Options)
              end,
    sockpool_bench_rounds:alternate(Run, Cells, rounds(), Measure).

tls_cell(Processes, Size, Bytes, Peers) ->
    Cell = #{target := Target} = cell(Processes, Size, 0, Peers),
    Cell#{target => Target#{transport => tls, bytes => Bytes}}.

opened(Run, Connections, Peers, Measure) ->
    Cell = tls_cell(Connections, Connections, ?BYTES, Peers),
    sockpool_bench_rounds:alternate(Run, [Cell], rounds(),
                                    fun(Peer, #{target := Target}) -> Measure(Peer, Target) end).

repeat(Run, TimedEvery, Cells) ->
    repeat(Run, TimedEvery, Cells, 1).

repeat(Run, TimedEvery, Cells, Windows) ->
    WindowMs = Windows * setting("BENCH_WINDOW_MS", 700),
    Measure = fun(Peer, #{processes := Processes, target := Target}) ->
                      sockpool_bench_load:repeat(
                        Peer, Target, #{processes => Processes, warmup_ms => warmup_ms(Processes),
                                        window_ms => WindowMs, timed_every => TimedEvery})
              end,
    sockpool_bench_rounds:alternate(Run, Cells, rounds(), Measure).

%% Long enough for a slow peer to serve every process about three times.
warmup_ms(Processes) ->
    max(200, Processes div 20).

burst(Run, Processes, Size, Overflow) ->
    Cell = cell(Processes, Size, Overflow, sockpool_bench_peers:echo()),
    Measure = fun(Peer, #{target := Target}) ->
                      sockpool_bench_load:burst(Peer, Target, Processes)
              end,
    {sockpool_bench_rounds:alternate(Run, [Cell], rounds(), Measure), []}.

%% One round is enough where only counts how many succeed: every namespace costs a VM's start.
bursts_in(Place, Run, Peers, Counts, Rounds) ->
    Measure = fun(Peer, #{processes := Processes, target := Target}) ->
                      sockpool_bench_ns:burst(Place, Peer, Target, Processes)
              end,
    Cells = [cell(Processes, 10, 52, Peers) || Processes <- Counts],
    sockpool_bench_rounds:alternate(name_in(Place, Run), Cells, Rounds, Measure).

%% Another name keeps figures without the limit from being taken for those with it.
name_in({limited, _}, Run) ->
    Run;
name_in({unlimited, Why}, Run) ->
    io:format("NO PORT LIMIT: ~s. Running without it.~n", [Why]),
    list_to_atom(atom_to_list(Run) ++ "_no_limit").

rounds() ->
    setting("BENCH_ROUNDS", 3).

setting(Name, Default) ->
    case os:getenv(Name) of
        false ->
            Default;
        Text ->
            try list_to_integer(Text) of
                Value when Value > 0 -> Value;
                _ -> error({bad_setting, Name, Text})
            catch
                error:badarg -> error({bad_setting, Name, Text})
            end
    end.
