%% @doc Many connections opened at once: what they cost in memory, and whether the VM's other
%% processes are served meanwhile.
-module(sockpool_bench_opening).

-export([open/1, close/1, timers/2, memory/2, memory_here/2]).

-define(OPENINGS, 10).
-define(LIMIT_MS, 60000).

%% OTP sockets

%% @doc As many sockets as the target has connections, each opened and held by a process.
-spec open(sockpool_bench_peers:target()) -> [pid()].
open(Target = #{size := Size}) ->
    {ok, _} = application:ensure_all_started(ssl),
    Opener = self(),
    Holders = [spawn_link(fun() -> hold(Opener, Target) end) || _ <- lists:seq(1, Size)],
    lists:foreach(fun(Holder) -> receive {open, Holder} -> ok end end, Holders),
    Holders.

hold(Opener, Target) ->
    {ok, Socket} = sockpool_bench_socket:connect(Target),
    Opener ! {open, self()},
    receive close -> sockpool_bench_socket:close(Socket) end.

-spec close([pid()]) -> ok.
close(Holders) ->
    Monitors = [erlang:monitor(process, Holder) || Holder <- Holders],
    lists:foreach(fun(Holder) -> Holder ! close end, Holders),
    lists:foreach(fun(Monitor) -> receive {'DOWN', Monitor, process, _, normal} -> ok end end,
                  Monitors).

%% Timers

%% @doc Timers of one millisecond, set again and again by processes of normal priority while the
%% connections are opened: an operation is a timer, its latency how late it was. The time from the
%% last connection to the close of all is not part of it. A VM that has nothing to do is late by
%% about one millisecond, because its clock for timers ticks once in that time.
-spec timers(sockpool_bench_peers:name(), sockpool_bench_load:target()) ->
          sockpool_bench_load:outcome().
timers(Name, Target) ->
    sockpool_bench_load:isolated(
      fun() -> with_server(Target, fun(Here) -> timers_of(Name, Here) end) end).

timers_of(Name, Target) ->
    Histogram = sockpool_bench_histogram:new(),
    %% The first one loads code.
    _ = opening(Name, Target, sockpool_bench_histogram:new()),
    Before = sockpool_bench_histogram:snapshot(Histogram),
    Native = lists:sum([opening(Name, Target, Histogram) || _ <- lists:seq(1, ?OPENINGS)]),
    sockpool_bench_load:measurement(sockpool_bench_histogram:operations(Histogram),
                                    sockpool_bench_histogram:since(Before, Histogram), #{}, Native).

%% Returns how long it took to open all.
opening(Name, Target, Histogram) ->
    #{start := Start, stop := Stop} = sockpool_bench_peers:peer(Name),
    Over = atomics:new(1, []),
    %% Linked, too: an opening that fails takes them with it.
    Probes = [spawn_opt(fun() -> probe(Over, Histogram) end, [link, monitor])
              || _ <- lists:seq(1, 2 * erlang:system_info(schedulers_online))],
    Began = erlang:monotonic_time(),
    Shared = Start(Target),
    Native = erlang:monotonic_time() - Began,
    ok = atomics:put(Over, 1, 1),
    lists:foreach(fun({_, Monitor}) -> receive {'DOWN', Monitor, process, _, normal} -> ok end end,
                  Probes),
    ok = Stop(Shared),
    Native.

%% A timer that was set before the end counts however late it is.
probe(Over, Histogram) ->
    case atomics:get(Over, 1) of
        1 ->
            ok;
        0 ->
            Set = erlang:monotonic_time(),
            receive after 1 -> ok end,
            Due = Set + erlang:convert_time_unit(1, millisecond, native),
            sockpool_bench_histogram:record(Histogram, erlang:monotonic_time() - Due),
            probe(Over, Histogram)
    end.

%% Memory

-define(FEW, 10).
%% A connection that is idle for over a second is watched for its server's close, at a price.
-define(IDLE_MS, 2000).

%% @doc How much a fresh VM grows by the target's connections. It has a few before, so that what
%% is needed once is there, and once more, because loading code leaves room behind. It never had
%% more than it has at the end: what closed connections leave would hide what new ones need.
-spec memory(sockpool_bench_peers:name(), sockpool_bench_load:target()) ->
          sockpool_bench_load:outcome().
memory(Name, Target) ->
    sockpool_bench_load:isolated(
      fun() ->
              {ok, Vm, _} = peer:start_link(#{connection => standard_io, args => code_paths()}),
              Measurement = peer:call(Vm, ?MODULE, memory_here, [Name, Target], ?LIMIT_MS),
              ok = peer:stop(Vm),
              Measurement
      end).

code_paths() ->
    lists:append([["-pa", filename:dirname(filename:absname(code:which(Module)))]
                  || Module <- [sockpool, ?MODULE]]).

%% @doc The same in this VM. `vm_bytes' is what its allocators gained and `os_bytes' what the
%% kernel says; an operation is a connection opened.
-spec memory_here(sockpool_bench_peers:name(), sockpool_bench_load:target()) ->
          sockpool_bench_load:measurement().
memory_here(Name, Target) ->
    with_server(Target, fun(Here) -> memory_of(Name, Here) end).

memory_of(Name, Target = #{size := Size}) ->
    _ = with_open(Name, Target#{size => ?FEW}),
    {Few, _} = with_open(Name, Target#{size => ?FEW}),
    {Many, Native} = with_open(Name, Target#{size => ?FEW + Size}),
    Untimed = sockpool_bench_histogram:snapshot(sockpool_bench_histogram:new()),
    Opened = sockpool_bench_load:measurement(?FEW + Size, Untimed, #{}, Native),
    maps:merge(Opened, gained(Few, Many)).

gained(#{os_bytes := unknown} = Few, Many) ->
    gained(maps:remove(os_bytes, Few), Many);
gained(Few, Many) ->
    maps:map(fun(Key, Before) -> maps:get(Key, Many) - Before end, Few).

with_open(Name, Target) ->
    #{start := Start, stop := Stop} = sockpool_bench_peers:peer(Name),
    Began = erlang:monotonic_time(),
    Shared = Start(Target),
    Native = erlang:monotonic_time() - Began,
    timer:sleep(?IDLE_MS),
    lists:foreach(fun erlang:garbage_collect/1, erlang:processes()),
    Bytes = #{vm_bytes => sockpool_bench_memory:vm_bytes(),
              os_bytes => sockpool_bench_memory:resident_bytes()},
    ok = Stop(Shared),
    {Bytes, Native}.

with_server(Target = #{transport := Transport}, Measure) ->
    Server = #{port := Port} = sockpool_bench_server:start(Transport),
    try Measure(Target#{port => Port})
    after sockpool_bench_server:stop(Server)
    end.
