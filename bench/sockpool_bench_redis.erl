%% @doc A redis-server of its own, without persistence, and its clients: sockpool with the client that is an
%% example of the documents, eredis, and redis-benchmark as the limit.
%%
%% Each process has a key and a value that no other has, so that another's reply is noticed. An operation
%% is a GET, or, where the whole is timed, a SET and a GET so many times over.
-module(sockpool_bench_redis).

-export([missing/0, with_server/1, gets/0, wholes/0, peer/1, limit/3, whole/3]).
-export_type([name/0]).

-type name() :: sockpool_redis | eredis | eredis_poolboy | redis_benchmark | redis_benchmark_16 |
                sockpool_redis_whole | eredis_whole.

-define(HOST, "127.0.0.1").
-define(TIMEOUT_MS, 5000).
%% The key that redis-benchmark asks for.
-define(KEY, "bench").
%% SET and GET by each process.
-define(PAIRS, 100).
-define(POOLBOY_SIZE, 50).

%% @doc Debian's packages that it needs and that are not here.
-spec missing() -> [string()].
missing() ->
    [Package || {Package, Program} <- [{"redis-server", "redis-server"}, {"redis-tools", "redis-benchmark"}],
                os:find_executable(Program) =:= false] ++
        ["erlang-redis-client" || code:which(eredis) =:= non_existing].

%% @doc Gives the fun the port of a server, which ends with it.
-spec with_server(fun((inet:port_number()) -> Result)) -> Result.
with_server(Use) ->
    Port = free_port(),
    Handle = open_port({spawn_executable, os:find_executable("sh")},
                       [{args, ["-c", until_stdin_closes(), "sh", "redis-server", "--port", integer_to_list(Port),
                                "--bind", ?HOST, "--save", "", "--appendonly", "no"]}]),
    try
        ok = sockpool_bench_wait:until(fun() -> is_up(Port) end),
        Use(Port)
    after
        true = port_close(Handle)
    end.

%% It does not end by itself when the VM does.
until_stdin_closes() ->
    "\"$@\" >/dev/null 2>&1 & server=$!; cat >/dev/null; kill $server".

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

%% What redis-benchmark asks for is there then.
is_up(Port) ->
    Value = binary:copy(<<"e">>, 64),
    case gen_tcp:connect(?HOST, Port, [binary, {active, false}]) of
        {ok, Socket} ->
            ok = gen_tcp:send(Socket, redis:encode(["SET", ?KEY, Value])),
            Answer = gen_tcp:recv(Socket, 0, ?TIMEOUT_MS),
            ok = gen_tcp:close(Socket),
            Answer =:= {ok, <<"+OK\r\n">>};
        {error, _} ->
            false
    end.

%% @doc Those that repeat a GET.
-spec gets() -> [name()].
gets() -> [sockpool_redis, eredis, eredis_poolboy, redis_benchmark, redis_benchmark_16].

%% @doc Those whose whole time counts.
-spec wholes() -> [name()].
wholes() -> [sockpool_redis_whole, eredis_whole].

%% @doc redis-benchmark is a program of its own and has only a label here.
-spec peer(name()) -> sockpool_bench_peers:peer() | #{name := name(), label := string()}.
peer(sockpool_redis) -> sockpool(sockpool_redis, fun get/2);
peer(sockpool_redis_whole) -> sockpool(sockpool_redis_whole, fun pairs/2);
peer(eredis) -> eredis(eredis, fun get/2);
peer(eredis_whole) -> eredis(eredis_whole, fun pairs/2);
peer(eredis_poolboy) -> poolboy(eredis_poolboy, fun get/2);
peer(redis_benchmark) -> #{name => redis_benchmark, label => "redis-benchmark -P 1"};
peer(redis_benchmark_16) -> #{name => redis_benchmark_16, label => "redis-benchmark -P 16 (limit)"}.

peer(Name, Label, Start, Stop, Sockets, Ask, Operation) ->
    #{name => Name, label => Label, start => Start, stop => Stop, sockets => fun(_, _) -> Sockets end,
      enter => fun(Shared, _Target, Payload) ->
                       Command = fun(Words) -> Ask(Shared, Words) end,
                       {ok, <<"OK">>} = Command(["SET", key(Payload), Payload]),
                       Operation(Command, Payload)
               end}.

%% Each process has its number in its payload.
key(<<Index:64, _/binary>>) -> ["bench:", integer_to_list(Index)].

get(Command, Payload) ->
    Words = ["GET", key(Payload)],
    fun() -> check(Command(Words), Payload) end.

pairs(Command, <<Index:64, _:64, Rest/binary>> = Payload) ->
    Key = key(Payload),
    fun() -> pairs(Command, Key, fun(N) -> <<Index:64, N:64, Rest/binary>> end, ?PAIRS) end.

pairs(_, _, _, 0) ->
    ok;
pairs(Command, Key, Value, Left) ->
    Bytes = Value(Left),
    maybe_more(check(Command(["SET", Key, Bytes]), <<"OK">>),
               fun() -> maybe_more(check(Command(["GET", Key]), Bytes),
                                   fun() -> pairs(Command, Key, Value, Left - 1) end)
               end).

maybe_more(ok, More) -> More();
maybe_more({error, _} = Error, _) -> Error.

check({ok, Expected}, Expected) -> ok;
check({ok, _}, _) -> {error, wrong_reply};
check({error, Reason}, _) -> {error, Reason}.

%%% sockpool

sockpool(Name, Operation) ->
    Size = erlang:system_info(schedulers_online),
    peer(Name, "sockpool, 1 connection per scheduler",
         fun(Target = #{port := Port}) ->
                 Options = #{host => ?HOST, port => Port, size => Size, max_overflow => 0, pipeline => 4096},
                 sockpool_bench_pool:start(Target, redis:options(Options))
         end,
         fun sockpool_bench_pool:stop/1, Size,
         fun(Pool, Words) -> redis:q(Pool, Words, ?TIMEOUT_MS) end, Operation).

%%% eredis

eredis(Name, Operation) ->
    peer(Name, "eredis, one client",
         fun(#{port := Port}) -> {ok, Client} = eredis:start_link(server(Port)), Client end,
         fun(Client) -> ok = eredis:stop(Client) end, 1, fun eredis_ask/2, Operation).

poolboy(Name, Operation) ->
    peer(Name, "eredis, 50 clients in poolboy",
         fun(#{port := Port}) ->
                 {ok, Pool} = poolboy:start_link([{worker_module, eredis}, {size, ?POOLBOY_SIZE}, {max_overflow, 0}],
                                                 server(Port)),
                 Pool
         end,
         fun(Pool) -> ok = poolboy:stop(Pool) end, ?POOLBOY_SIZE, fun poolboy_ask/2, Operation).

server(Port) -> [{host, ?HOST}, {port, Port}].

eredis_ask(Client, Words) ->
    try eredis:q(Client, Words, ?TIMEOUT_MS)
    catch exit:{Reason, {gen_server, call, _}} -> {error, Reason}
    end.

poolboy_ask(Pool, Words) ->
    try poolboy:checkout(Pool, true, ?TIMEOUT_MS) of
        Client ->
            Answer = eredis_ask(Client, Words),
            ok = poolboy:checkin(Pool, Client),
            Answer
    catch
        exit:{Reason, {gen_server, call, _}} -> {error, Reason}
    end.

%%% The whole

%% @doc All processes do what they have to do once. An operation is one command; latencies are those of all
%% the commands of a process.
-spec whole(name(), sockpool_bench_load:target(), pos_integer()) -> sockpool_bench_load:outcome().
whole(Name, Target, Processes) ->
    case sockpool_bench_load:burst(Name, Target, Processes) of
        {ok, #{ops := Ops, ops_per_s := OpsPerSecond} = Measured} ->
            {ok, Measured#{ops := 2 * ?PAIRS * Ops, ops_per_s := 2 * ?PAIRS * OpsPerSecond}};
        Not ->
            Not
    end.

%%% redis-benchmark

%% @doc As many requests under way as there are processes, and as many in all as it can do in about the time
%% that the others have.
-spec limit(name(), sockpool_bench_load:target(), #{processes := pos_integer(), window_ms := pos_integer(), _ => _}) ->
          sockpool_bench_load:outcome().
limit(Name, #{port := Port}, #{processes := Processes, window_ms := WindowMs}) ->
    Pipeline = pipeline(Name),
    Clients = (Processes + Pipeline - 1) div Pipeline,
    Requests = WindowMs * in_a_millisecond(Pipeline, Clients),
    Numbers = [{"-p", Port}, {"-c", Clients}, {"-n", Requests}, {"-P", Pipeline}],
    Args = lists:append([[Option, integer_to_list(Number)] || {Option, Number} <- Numbers]) ++ ["--csv", "GET", ?KEY],
    Handle = open_port({spawn_executable, os:find_executable("redis-benchmark")}, [{args, Args}, binary, exit_status]),
    case output(Handle, <<>>) of
        {0, Csv} -> {ok, from_csv(Requests, Csv)};
        {Status, Said} -> {failed, {redis_benchmark, Status, Said}}
    end.

pipeline(redis_benchmark) -> 1;
pipeline(redis_benchmark_16) -> 16.

in_a_millisecond(1, 1) -> 30;
in_a_millisecond(1, _) -> 100;
in_a_millisecond(16, _) -> 400.

output(Handle, Said) ->
    receive
        {Handle, {data, More}} -> output(Handle, <<Said/binary, More/binary>>);
        {Handle, {exit_status, Status}} -> {Status, Said}
    after 60000 -> {silent, Said}
    end.

%% A line of names and one of values, each in quotes.
from_csv(Requests, Csv) ->
    [Names, Values] = [string:lexemes(Line, "\",") || Line <- string:lexemes(Csv, "\r\n")],
    Row = maps:from_list(lists:zip(Names, Values)),
    OpsPerSecond = number(<<"rps">>, Row),
    #{ops => Requests, errors => #{}, seconds => Requests / OpsPerSecond, ops_per_s => OpsPerSecond,
      p50_us => 1000 * number(<<"p50_latency_ms">>, Row), p99_us => 1000 * number(<<"p99_latency_ms">>, Row),
      max_us => 1000 * number(<<"max_latency_ms">>, Row)}.

number(Name, Row) -> binary_to_float(maps:get(Name, Row)).
