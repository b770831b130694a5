%% @doc Pools of processes: the peers, all of which have the same workers.
-module(sockpool_bench_workers).

-export([peer/1, starts/2, memory/0]).
-export_type([name/0]).

-type name() :: sockpool_worker_checkout | sockpool_poolboy_checkout | poolboy_worker_checkout |
                sockpool_worker_transaction | sockpool_poolboy_transaction |
                poolboy_worker_transaction | worker_call | sockpool_worker_starts.

-define(POOL, ?MODULE).
-define(TIMEOUT_MS, 5000).
-define(SLOW_START_MS, 2000).
-define(FLOOR_BYTES, 1024).

-spec peer(name()) -> sockpool_bench_peers:peer().
peer(sockpool_worker_checkout) ->
    sockpool(sockpool_worker_checkout, "sockpool checkout+checkin", fun checkout/3);
peer(sockpool_worker_transaction) ->
    sockpool(sockpool_worker_transaction, "sockpool transaction with a call", fun transaction/3);
peer(poolboy_worker_checkout) ->
    poolboy(poolboy, poolboy_worker_checkout, "poolboy checkout+checkin", fun poolboy_checkout/3);
peer(poolboy_worker_transaction) ->
    poolboy(poolboy, poolboy_worker_transaction, "poolboy transaction with a call", fun poolboy_transaction/3);
peer(sockpool_poolboy_checkout) ->
    poolboy(sockpool_poolboy, sockpool_poolboy_checkout, "sockpool_poolboy checkout+checkin", fun poolboy_checkout/3);
peer(sockpool_poolboy_transaction) ->
    poolboy(sockpool_poolboy, sockpool_poolboy_transaction, "sockpool_poolboy transaction with a call",
            fun poolboy_transaction/3);
peer(worker_call) ->
    peer(worker_call, "the call alone, without a pool", fun start_workers/1, fun stop_workers/1, fun call_alone/3);
peer(sockpool_worker_starts) ->
    #{name => sockpool_worker_starts, label => "sockpool, workers that start slowly",
      start => fun start_slowly/1, stop => fun sockpool_bench_pool:stop/1}.

peer(Name, Label, Start, Stop, Enter) ->
    #{name => Name, label => Label, start => Start, stop => Stop, enter => Enter, sockets => fun(_, _) -> 0 end}.

%% sockpool

sockpool(Name, Label, Enter) ->
    peer(Name, Label, fun start/1, fun sockpool_bench_pool:stop/1, Enter).

start(Target) ->
    sockpool_bench_pool:start(Target, #{worker => {sockpool_bench_worker, []}}).

checkout(Pool, _, _) ->
    fun() ->
        case sockpool:checkout(Pool, ?TIMEOUT_MS) of
            {ok, Conn} ->
                true = is_pid(sockpool:worker(Conn)),
                sockpool:checkin(Conn);
            {error, Reason} -> {error, Reason}
        end
    end.

transaction(Pool, _, Payload) ->
    fun() ->
        try sockpool:transaction(Pool, fun(Worker) -> call(Worker, Payload) end, ?TIMEOUT_MS)
        catch error:{checkout, Reason} -> {error, Reason}
        end
    end.

%% poolboy, or a module with its functions

poolboy(Module, Name, Label, Enter) ->
    peer(Name, Label, fun(Target) -> start_poolboy(Module, Target) end,
         fun({_, Pool}) -> ok = Module:stop(Pool) end, Enter).

start_poolboy(Module, #{size := Size, max_overflow := Overflow}) ->
    {ok, _} = application:ensure_all_started(sockpool),
    {ok, _} = Module:start_link([{name, {local, ?POOL}}, {worker_module, sockpool_bench_worker},
                                 {size, Size}, {max_overflow, Overflow}], []),
    {Module, ?POOL}.

poolboy_checkout({Module, Pool}, _, _) ->
    fun() ->
        try Module:checkout(Pool, true, ?TIMEOUT_MS) of
            Worker when is_pid(Worker) -> Module:checkin(Pool, Worker)
        catch
            exit:{Reason, {gen_server, call, _}} -> {error, Reason}
        end
    end.

poolboy_transaction({Module, Pool}, _, Payload) ->
    fun() ->
        try Module:transaction(Pool, fun(Worker) -> call(Worker, Payload) end, ?TIMEOUT_MS)
        catch exit:{Reason, {gen_server, call, _}} -> {error, Reason}
        end
    end.

%% No pool: the limit. Each process has a worker, which others may have as well.

start_workers(#{size := Size}) ->
    list_to_tuple([element(2, sockpool_bench_worker:start_link(none)) || _ <- lists:seq(1, Size)]).

stop_workers(Workers) ->
    lists:foreach(fun gen_server:stop/1, tuple_to_list(Workers)).

call_alone(Workers, _, Payload) ->
    Worker = element(1 + erlang:phash2(self(), tuple_size(Workers)), Workers),
    fun() -> call(Worker, Payload) end.

call(Worker, Payload) ->
    case sockpool_bench_worker:echo(Worker, Payload) of
        {ok, Payload} -> ok;
        {ok, _} -> {error, wrong_reply}
    end.

%% Starts

%% @doc How long it takes until all workers of a pool are there, each of which takes two seconds. An
%% operation is a start.
-spec starts(sockpool_bench_peers:name(), sockpool_bench_rounds:cell()) -> sockpool_bench_load:outcome().
starts(Name, #{target := Target}) ->
    sockpool_bench_load:isolated(fun() -> started(peer(Name), Target) end).

started(#{start := Start, stop := Stop}, Target = #{size := Size}) ->
    Began = erlang:monotonic_time(),
    Shared = Start(Target),
    Native = erlang:monotonic_time() - Began,
    ok = Stop(Shared),
    Untimed = sockpool_bench_histogram:snapshot(sockpool_bench_histogram:new()),
    sockpool_bench_load:measurement(Size, Untimed, #{}, Native).

start_slowly(Target = #{size := Size}) ->
    sockpool_bench_pool:start(Target, #{worker => {sockpool_bench_worker, start_slowly, [?SLOW_START_MS]},
                                        connect_parallelism => Size}).

%% Memory

%% @doc What a pool of processes costs besides these.
-spec memory() -> [sockpool_bench_report:check()].
memory() ->
    %% Loads code, and makes the VM's tables grow.
    _ = cost(),
    Bytes = sockpool_bench_rounds:median([cost() || _ <- [1, 2, 3]]),
    [#{run => workers, value => Bytes, ok => Bytes =< ?FLOOR_BYTES,
       text => <<"bytes a worker in a pool of 100, besides the worker itself (at most 1024)">>}].

cost() ->
    Size = 100,
    Without = others_bytes(),
    Pool = start(#{transport => worker, size => Size, max_overflow => 0}),
    With = others_bytes(),
    ok = sockpool_bench_pool:stop(Pool),
    (With - Without) / Size.

others_bytes() ->
    lists:foreach(fun erlang:garbage_collect/1, erlang:processes()),
    Workers = [Bytes || Pid <- erlang:processes(),
                        proc_lib:translate_initial_call(Pid) =:= {sockpool_bench_worker, init, 1},
                        {memory, Bytes} <- [erlang:process_info(Pid, memory)]],
    sockpool_bench_memory:vm_bytes() - lists:sum(Workers).
