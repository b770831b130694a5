%% @doc The clients that are measured, behind one shape, so that all of them run the same load.
%%
%% `start' makes what all processes share (a pool), `enter' runs in each process and gives back
%% the operation to repeat, `stop' takes everything down. An operation sends the payload, which
%% no other process uses, and holds the reply against it: another's reply is an error.
-module(sockpool_bench_peers).

-export([echo/0, pools/0, checkout/0, peer/1, tcp_connect/1]).
-export_type([peer/0, name/0, target/0, operation/0]).

-type name() :: sockpool_request | sockpool_lease | sockpool_checkout |
                poolboy | poolboy_checkout | gen_tcp | connect | raw.
-type target() :: #{port := inet:port_number(),
                    size := pos_integer(),
                    max_overflow := non_neg_integer(),
                    bytes := pos_integer()}.
-type operation() :: fun(() -> ok | {error, term()}).
-type peer() :: #{name := name(),
                  label := string(),
                  start := fun((target()) -> Shared :: term()),
                  enter := fun((Shared :: term(), target(), Payload :: binary()) -> operation()),
                  stop := fun((Shared :: term()) -> ok),
                  sockets := fun((target(), Processes :: pos_integer()) -> pos_integer())}.

-define(TIMEOUT_MS, 5000).

%% @doc Everything that does requests and replies; `raw' is the limit.
-spec echo() -> [name()].
echo() -> [sockpool_request, sockpool_lease, poolboy, gen_tcp, connect, raw].

%% @doc Those that share a few connections among many processes, and the limit.
-spec pools() -> [name()].
pools() -> [sockpool_request, poolboy, raw].

%% @doc Those that only take and give back, without any I/O.
-spec checkout() -> [name()].
checkout() -> [sockpool_checkout, poolboy_checkout].

%% @doc `raw' is a program of its own and has only a label here.
-spec peer(name()) -> peer() | #{name := raw, label := string()}.
peer(sockpool_request) ->
    sockpool(sockpool_request, "sockpool request", fun request/3);
peer(sockpool_lease) ->
    sockpool(sockpool_lease, "sockpool checkout/send/recv/checkin", fun lease/3);
peer(sockpool_checkout) ->
    sockpool(sockpool_checkout, "sockpool checkout+checkin", fun checkout_only/3);
peer(poolboy) ->
    poolboy(poolboy, "poolboy + gen_server worker", fun poolboy_echo/3);
peer(poolboy_checkout) ->
    poolboy(poolboy_checkout, "poolboy checkout+checkin", fun poolboy_checkout_only/3);
peer(gen_tcp) ->
    #{name => gen_tcp, label => "gen_tcp, a socket per process",
      start => fun(_) -> none end,
      enter => fun own_socket/3,
      stop => fun(_) -> ok end,
      sockets => fun(_, Processes) -> Processes end};
peer(connect) ->
    #{name => connect, label => "gen_tcp, connect per request",
      start => fun(_) -> none end,
      enter => fun connect_each/3,
      stop => fun(_) -> ok end,
      sockets => fun(_, Processes) -> Processes end};
peer(raw) ->
    #{name => raw, label => "raw C client (limit)"}.

%% @doc A passive socket to the echo server, set up as sockpool sets up its own by default.
-spec tcp_connect(inet:port_number()) -> {ok, gen_tcp:socket()} | {error, term()}.
tcp_connect(Port) ->
    gen_tcp:connect({127, 0, 0, 1}, Port,
                    [binary, {active, false}, {packet, raw}, {nodelay, true}], ?TIMEOUT_MS).

capacity(#{size := Size, max_overflow := Overflow}, _Processes) ->
    Size + Overflow.

%% sockpool

sockpool(Name, Label, Enter) ->
    #{name => Name, label => Label, enter => Enter, sockets => fun capacity/2,
      start => fun start_sockpool/1,
      stop => fun(Pool) -> ok = sockpool:stop_pool(Pool) end}.

start_sockpool(#{port := Port, size := Size, max_overflow := Overflow}) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Pool = sockpool_bench,
    %% One that a failed measurement left behind.
    _ = sockpool:stop_pool(Pool),
    {ok, _} = sockpool:start_pool(Pool, #{host => {127, 0, 0, 1}, port => Port,
                                          size => Size, max_overflow => Overflow}),
    ok = sockpool_bench_wait:until(fun() -> idle(Pool) =:= Size end),
    Pool.

idle(Pool) ->
    {ok, #{idle := Idle}} = sockpool:stats(Pool),
    Idle.

request(Pool, #{bytes := Bytes}, Payload) ->
    fun() -> check(sockpool:request(Pool, Payload, Bytes, ?TIMEOUT_MS), Payload) end.

lease(Pool, #{bytes := Bytes}, Payload) ->
    fun() ->
        case sockpool:checkout(Pool, ?TIMEOUT_MS) of
            {ok, Conn} ->
                Outcome = check(lease_exchange(Conn, Payload, Bytes), Payload),
                first_error(Outcome, sockpool:checkin(Conn));
            {error, Reason} ->
                {error, Reason}
        end
    end.

lease_exchange(Conn, Payload, Bytes) ->
    case sockpool:send(Conn, Payload, ?TIMEOUT_MS) of
        ok -> sockpool:recv(Conn, Bytes, ?TIMEOUT_MS);
        {error, Reason} -> {error, Reason}
    end.

checkout_only(Pool, _, _) ->
    fun() ->
        case sockpool:checkout(Pool, ?TIMEOUT_MS) of
            {ok, Conn} -> sockpool:checkin(Conn);
            {error, Reason} -> {error, Reason}
        end
    end.

%% poolboy

poolboy(Name, Label, Enter) ->
    #{name => Name, label => Label, enter => Enter, sockets => fun capacity/2,
      start => fun start_poolboy/1,
      stop => fun(Pool) -> ok = poolboy:stop(Pool) end}.

start_poolboy(#{port := Port, size := Size, max_overflow := Overflow}) ->
    {ok, Pool} = poolboy:start_link([{worker_module, sockpool_bench_poolboy_worker},
                                     {size, Size}, {max_overflow, Overflow}],
                                    [{port, Port}]),
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

%% gen_tcp

own_socket(none, #{port := Port}, Payload) ->
    {ok, Socket} = tcp_connect(Port),
    fun() -> check(exchange(Socket, Payload), Payload) end.

connect_each(none, #{port := Port}, Payload) ->
    fun() ->
        case tcp_connect(Port) of
            {ok, Socket} ->
                Outcome = check(exchange(Socket, Payload), Payload),
                ok = gen_tcp:close(Socket),
                Outcome;
            {error, Reason} ->
                {error, Reason}
        end
    end.

exchange(Socket, Payload) ->
    case gen_tcp:send(Socket, Payload) of
        ok -> gen_tcp:recv(Socket, byte_size(Payload), ?TIMEOUT_MS);
        {error, Reason} -> {error, Reason}
    end.

%% results

check({ok, Payload}, Payload) -> ok;
check({ok, _}, _) -> {error, wrong_reply};
check({error, Reason}, _) -> {error, Reason}.

first_error(ok, Second) -> Second;
first_error(First, _) -> First.
