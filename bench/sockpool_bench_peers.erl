%% @doc The clients that are measured, behind one shape, so that all of them run the same load.
%%
%% `start' makes what all processes share (a pool), `enter' runs in each process and gives back
%% the operation to repeat, `stop' takes everything down. An operation sends the payload, which
%% no other process uses, and holds the reply against it: another's reply is an error.
-module(sockpool_bench_peers).

-export([echo/0, pipeline/0, tls_echo/0, pools/0, checkout/0, handshakes/0, calls/0, served/0, c_pipeline/0, joins/0]).
-export([worker_checkout/0, worker_transaction/0, peer/1, exchange/3]).
-export_type([peer/0, name/0, target/0, operation/0]).

-type name() :: sockpool_request | sockpool_piped | sockpool_lease | sockpool_checkout |
                sockpool_full | sockpool_resumed | sockpool_open |
                poolboy | poolboy_checkout | gen_tcp | connect | raw |
                ssl | ssl_connect | ssl_open | nothing |
                erpc | sockpool_call | sockpool_node_lease |
                sockpool_c_stats | gen_server_stats | sockpool_c_request | sockpool_c_piped | sockpool_erlang_request |
                join | join_beside_silent | sockpool_bench_slow:name() | sockpool_bench_ageing:name() |
                sockpool_bench_redis:name() | sockpool_bench_workers:name() | sockpool_bench_counting:name().
-type target() :: #{transport := sockpool_bench_socket:transport(),
                    port := inet:port_number(),
                    size := pos_integer(),
                    max_overflow := non_neg_integer(),
                    bytes := pos_integer(),
                    node => node(),
                    %% of what the connections could do, where that is less than all
                    load => float()}.
-type operation() :: fun(() -> ok | {error, term()}).
-type peer() :: #{name := name(),
                  label := string(),
                  start := fun((target()) -> Shared :: term()),
                  stop := fun((Shared :: term()) -> ok),
                  %% those that only open connections have neither of these
                  enter => fun((Shared :: term(), target(), Payload :: binary()) -> operation()),
                  sockets => fun((target(), Processes :: pos_integer()) -> pos_integer()),
                  %% what the measurement is to say besides
                  tally => fun((Shared :: term()) -> #{atom() => term()})}.

-define(TIMEOUT_MS, 5000).
%% About as long as 200 handshakes.
-define(NOTHING_MS, 150).

%% @doc Everything that does requests and replies; `raw' is the limit.
-spec echo() -> [name()].
echo() -> [sockpool_request, sockpool_lease, poolboy, gen_tcp, connect, raw].

%% @doc Many requests on few connections, beside one at a time on many.
-spec pipeline() -> [name()].
pipeline() -> [sockpool_piped, sockpool_request, poolboy, gen_tcp, raw].

%% @doc Everything that does requests and replies over TLS.
-spec tls_echo() -> [name()].
tls_echo() -> [sockpool_piped, sockpool_request, sockpool_lease, poolboy, ssl].

%% @doc A TLS handshake for each request.
-spec handshakes() -> [name()].
handshakes() -> [sockpool_full, sockpool_resumed, ssl_connect].

%% @doc Those that share a few connections among many processes, and the limit.
-spec pools() -> [name()].
pools() -> [sockpool_request, poolboy, raw].

%% @doc Those that call a function on another node.
-spec calls() -> [name()].
calls() -> [erpc, sockpool_call, sockpool_node_lease].

%% @doc Those that only take and give back, without any I/O.
-spec checkout() -> [name()].
checkout() -> [sockpool_checkout, poolboy_checkout].

%% @doc The same of pools of processes.
-spec worker_checkout() -> [name()].
worker_checkout() -> [sockpool_worker_checkout, sockpool_poolboy_checkout, poolboy_worker_checkout].

%% @doc Those that call the process which they get, and the limit.
-spec worker_transaction() -> [name()].
worker_transaction() ->
    [sockpool_worker_transaction, sockpool_poolboy_transaction, poolboy_worker_transaction, worker_call].

%% @doc Calls to other nodes, and requests through their pools.
-spec served() -> [name()].
served() -> [sockpool_c_stats, gen_server_stats, sockpool_c_request, sockpool_erlang_request].

%% @doc Requests through the C node, one at a time on each connection of its pool or many.
-spec c_pipeline() -> [name()].
c_pipeline() -> [sockpool_c_request, sockpool_c_piped].

%% @doc Handshakes with the C node.
-spec joins() -> [name()].
joins() -> [join, join_beside_silent].

%% @doc A program of its own has only a label here.
-spec peer(name()) -> peer() | #{name := name(), label := string()}.
peer(sockpool_request) ->
    sockpool(sockpool_request, "sockpool request", fun request/3);
peer(sockpool_piped) ->
    Peer = sockpool(sockpool_piped, "sockpool request, pipelined", fun request/3),
    Peer#{start := fun start_piped/1};
peer(sockpool_lease) ->
    sockpool(sockpool_lease, "sockpool checkout/send/recv/checkin", fun lease/3);
peer(sockpool_checkout) ->
    sockpool(sockpool_checkout, "sockpool checkout+checkin", fun checkout_only/3);
peer(poolboy) ->
    poolboy(poolboy, "poolboy + gen_server worker", fun poolboy_echo/3);
peer(poolboy_checkout) ->
    poolboy(poolboy_checkout, "poolboy checkout+checkin", fun poolboy_checkout_only/3);
peer(gen_tcp) ->
    no_pool(gen_tcp, "gen_tcp, a socket per process", fun own_socket/3);
peer(connect) ->
    no_pool(connect, "gen_tcp, connect per request", fun connect_each/3);
peer(ssl) ->
    no_pool(ssl, "OTP ssl, a connection per process", fun own_socket/3);
peer(ssl_connect) ->
    no_pool(ssl_connect, "OTP ssl, full handshake per request", fun connect_each/3);
peer(sockpool_full) ->
    handshakes(sockpool_full, "sockpool, full handshake per request", false);
peer(sockpool_resumed) ->
    handshakes(sockpool_resumed, "sockpool, resumed per request", true);
peer(sockpool_open) ->
    #{name => sockpool_open, label => "sockpool, a pool opened",
      start => fun start_sockpool/1,
      stop => fun sockpool_bench_pool:stop/1};
peer(ssl_open) ->
    #{name => ssl_open, label => "OTP ssl, connections opened at once",
      start => fun sockpool_bench_opening:open/1,
      stop => fun sockpool_bench_opening:close/1};
peer(nothing) ->
    #{name => nothing, label => "nothing (for comparison)",
      start => fun(_) -> timer:sleep(?NOTHING_MS) end,
      stop => fun(ok) -> ok end};
peer(sockpool_c_stats) ->
    node(sockpool_c_stats, "C node, gen_server:call of stats",
         fun sockpool_bench_served:start_c/1, fun sockpool_bench_served:stats/3);
peer(gen_server_stats) ->
    node(gen_server_stats, "a gen_server on an Erlang node, the same call",
         fun sockpool_bench_served:start_gen_server/1, fun sockpool_bench_served:stats/3);
peer(sockpool_c_request) ->
    node(sockpool_c_request, "request through the C node",
         fun sockpool_bench_served:start_c/1, fun sockpool_bench_served:request/3);
peer(sockpool_c_piped) ->
    node(sockpool_c_piped, "request through the C node, pipelined",
         fun sockpool_bench_served:start_c_piped/1, fun sockpool_bench_served:request/3);
peer(sockpool_erlang_request) ->
    node(sockpool_erlang_request, "request through an Erlang node",
         fun sockpool_bench_served:start_erlang/1, fun sockpool_bench_served:request/3);
peer(join) ->
    node(join, "joining the C node", fun sockpool_bench_served:start_c/1, fun sockpool_bench_served:join/3);
peer(join_beside_silent) ->
    Peer = node(join_beside_silent, "the same beside 1,000 silent connections",
                fun sockpool_bench_served:start_beside_silent/1, fun sockpool_bench_served:join/3),
    Peer#{sockets := fun(_, _) -> sockpool_bench_served:silent() end};
peer(erpc) ->
    no_pool(erpc, "erpc:call, the one connection", fun erpc_call/3);
peer(sockpool_call) ->
    sockpool(sockpool_call, "sockpool:call, a pool of 4", fun pool_call/3);
peer(sockpool_node_lease) ->
    #{name => sockpool_node_lease, label => "sockpool:call, one connection shared",
      enter => fun shared_call/3, sockets => fun capacity/2,
      start => fun start_shared/1, stop => fun stop_shared/1};
peer(raw) ->
    #{name => raw, label => "raw C client (limit)"};
peer(Slow) when Slow =:= sockpool_slow_1; Slow =:= sockpool_slow_4; Slow =:= sockpool_slow_16; Slow =:= sockpool_slow_64 ->
    sockpool_bench_slow:peer(Slow);
peer(Ageing) when Ageing =:= sockpool_ageless; Ageing =:= sockpool_ageing; Ageing =:= close_then_open ->
    sockpool_bench_ageing:peer(Ageing);
peer(OfRedis) when OfRedis =:= sockpool_redis; OfRedis =:= eredis; OfRedis =:= eredis_poolboy;
                   OfRedis =:= redis_benchmark; OfRedis =:= redis_benchmark_16;
                   OfRedis =:= sockpool_redis_whole; OfRedis =:= eredis_whole ->
    sockpool_bench_redis:peer(OfRedis);
peer(OfCounting) when OfCounting =:= sockpool_times; OfCounting =:= sockpool_no_times ->
    sockpool_bench_counting:peer(OfCounting);
peer(OfWorkers) ->
    sockpool_bench_workers:peer(OfWorkers).

capacity(#{size := Size, max_overflow := Overflow}, _Processes) ->
    Size + Overflow.

%% sockpool

sockpool(Name, Label, Enter) ->
    #{name => Name, label => Label, enter => Enter, sockets => fun capacity/2,
      start => fun start_sockpool/1,
      stop => fun sockpool_bench_pool:stop/1}.

start_sockpool(Target) ->
    sockpool_bench_pool:start(Target, #{}).

%% A connection per scheduler.
start_piped(Target) ->
    sockpool_bench_pool:start(Target, #{size => erlang:system_info(schedulers_online), max_overflow => 0, pipeline => 4096}).

handshakes(Name, Label, SessionReuse) ->
    #{name => Name, label => Label, sockets => fun capacity/2,
      start => fun(Target) -> sockpool_bench_handshakes:start(Target, SessionReuse) end,
      enter => fun sockpool_bench_handshakes:enter/3,
      stop => fun sockpool_bench_handshakes:stop/1,
      tally => fun sockpool_bench_handshakes:tally/1}.

request(Pool, #{bytes := Bytes}, Payload) ->
    fun() -> check(sockpool:request(Pool, Payload, Bytes, ?TIMEOUT_MS), Payload) end.

lease(Pool, #{bytes := Bytes}, Payload) ->
    fun() ->
        case sockpool:checkout(Pool, ?TIMEOUT_MS) of
            {ok, Conn} ->
                Outcome = exchange(Conn, Payload, Bytes),
                first_error(Outcome, sockpool:checkin(Conn));
            {error, Reason} ->
                {error, Reason}
        end
    end.

%% @doc A request and its reply over a connection that is checked out.
-spec exchange(sockpool:conn(), Payload :: binary(), Bytes :: pos_integer()) ->
          ok | {error, term()}.
exchange(Conn, Payload, Bytes) ->
    case sockpool:send(Conn, Payload, ?TIMEOUT_MS) of
        ok -> check(sockpool:recv(Conn, Bytes, ?TIMEOUT_MS), Payload);
        {error, Reason} -> {error, Reason}
    end.

checkout_only(Pool, _, _) ->
    fun() ->
        case sockpool:checkout(Pool, ?TIMEOUT_MS) of
            {ok, Conn} -> sockpool:checkin(Conn);
            {error, Reason} -> {error, Reason}
        end
    end.

%% pools of other nodes

node(Name, Label, Start, Enter) ->
    #{name => Name, label => Label, start => Start, enter => Enter,
      stop => fun sockpool_bench_served:stop/1, sockets => fun(_, _) -> 0 end}.

%% calls of another node

erpc_call(none, #{node := Node}, Payload) ->
    fun() ->
        try check({ok, erpc:call(Node, erlang, hd, [[Payload]], ?TIMEOUT_MS)}, Payload)
        catch error:{erpc, Reason} -> {error, Reason}
        end
    end.

pool_call(To, _, Payload) ->
    fun() -> check(sockpool:call(To, erlang, hd, [[Payload]], ?TIMEOUT_MS), Payload) end.

start_shared(Target) ->
    Pool = start_sockpool(Target),
    {ok, Conn} = sockpool:checkout(Pool, ?TIMEOUT_MS),
    {Pool, Conn}.

stop_shared({Pool, Conn}) ->
    ok = sockpool:checkin(Conn),
    sockpool_bench_pool:stop(Pool).

shared_call({_Pool, Conn}, Target, Payload) -> pool_call(Conn, Target, Payload).

%% poolboy

poolboy(Name, Label, Enter) ->
    #{name => Name, label => Label, enter => Enter, sockets => fun capacity/2,
      start => fun start_poolboy/1,
      stop => fun(Pool) -> ok = poolboy:stop(Pool) end}.

start_poolboy(Target = #{size := Size, max_overflow := Overflow}) ->
    {ok, Pool} = poolboy:start_link([{worker_module, sockpool_bench_poolboy_worker},
                                     {size, Size}, {max_overflow, Overflow}],
                                    [{target, Target}]),
    Pool.

poolboy_echo(Pool, _, Payload) ->
    fun() ->
        case poolboy_take(Pool) of
            {ok, Worker} ->
                Outcome = poolboy_call(Worker, Payload),
                ok = poolboy:checkin(Pool, Worker),
                check(Outcome, Payload);
            {error, Reason} ->
                {error, Reason}
        end
    end.

poolboy_checkout_only(Pool, _, _) ->
    fun() ->
        case poolboy_take(Pool) of
            {ok, Worker} -> poolboy:checkin(Pool, Worker);
            {error, Reason} -> {error, Reason}
        end
    end.

%% poolboy and gen_server raise where others return an error.
poolboy_take(Pool) ->
    try {ok, poolboy:checkout(Pool, true, ?TIMEOUT_MS)}
    catch exit:{Reason, {gen_server, call, _}} -> {error, short(Reason)}
    end.

poolboy_call(Worker, Payload) ->
    try sockpool_bench_poolboy_worker:echo(Worker, Payload)
    catch exit:{Reason, {gen_server, call, _}} -> {error, short(Reason)}
    end.

%% A crash reason carries whole states; the kind of it is enough to count by.
short(Reason) when is_atom(Reason) -> Reason;
short(_) -> pool_crashed.

%% no pool

no_pool(Name, Label, Enter) ->
    #{name => Name, label => Label, enter => Enter,
      start => fun(_) -> none end,
      stop => fun(_) -> ok end,
      sockets => fun(_, Processes) -> Processes end}.

own_socket(none, Target, Payload) ->
    {ok, Socket} = sockpool_bench_socket:connect(Target),
    fun() -> check(sockpool_bench_socket:exchange(Socket, Payload), Payload) end.

connect_each(none, Target, Payload) ->
    fun() ->
        case sockpool_bench_socket:connect(Target) of
            {ok, Socket} ->
                Outcome = check(sockpool_bench_socket:exchange(Socket, Payload), Payload),
                ok = sockpool_bench_socket:close(Socket),
                Outcome;
            {error, Reason} ->
                {error, Reason}
        end
    end.

%% results

check({ok, Payload}, Payload) -> ok;
check({ok, _}, _) -> {error, wrong_reply};
check({error, Reason}, _) -> {error, Reason}.

first_error(ok, Second) -> Second;
first_error(First, _) -> First.
