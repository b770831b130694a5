%% @doc What the reader of the TLS figures should know: whether all clients were given the same
%% protection, and what connections cost in memory.
-module(sockpool_bench_tls_checks).

-export([protection/0, memory/1]).

-define(TIMEOUT_MS, 5000).

%% @doc Figures compare only if every client agreed on the same protocol and cipher.
-spec protection() -> sockpool_bench_report:check().
protection() ->
    Server = #{port := Port} = sockpool_bench_server:start(tls),
    Target = #{transport => tls, port => Port, size => 1, max_overflow => 0, bytes => 1},
    Ours = of_sockpool(Target),
    Theirs = of_otp(Target),
    ok = sockpool_bench_server:stop(Server),
    Text = io_lib:format("sockpool: ~s; OTP ssl: ~s", [Ours, Theirs]),
    #{run => tls, text => iolist_to_binary(Text), value => Ours =:= Theirs, ok => Ours =:= Theirs}.

of_sockpool(Target) ->
    Pool = sockpool_bench_pool:start(Target, #{}),
    {ok, Conn} = sockpool:checkout(Pool, ?TIMEOUT_MS),
    {ok, #{protocol := Protocol, cipher := Cipher}} = sockpool:info(Conn),
    ok = sockpool:checkin(Conn),
    ok = sockpool_bench_pool:stop(Pool),
    name(Protocol, Cipher).

of_otp(Target) ->
    {ok, Socket} = sockpool_bench_socket:connect(Target),
    {Protocol, Suite} = sockpool_bench_socket:protection(Socket),
    ok = sockpool_bench_socket:close(Socket),
    name(Protocol, ssl:suite_to_openssl_str(Suite)).

name(Protocol, Cipher) ->
    iolist_to_binary([atom_to_list(Protocol), $\s, Cipher]).

%% @doc Lines for information; sockpool's are goals, too.
-spec memory([sockpool_bench_rounds:series()]) -> [sockpool_bench_report:check()].
memory(Series) ->
    [line(Peer, Connections, Whose, [Bytes || #{What := Bytes} <- Measured])
     || One = #{run := tls_memory, peer := Peer, connections := Connections} <- Series,
        Measured <- [sockpool_bench_rounds:measurements(One)],
        Measured =/= [],
        {What, Whose} <- [{vm_bytes, "the VM's allocators"}, {os_bytes, "the kernel"}]].

line(Peer, Connections, Whose, Bytes) ->
    #{label := Label} = sockpool_bench_peers:peer(Peer),
    Text = io_lib:format("~b TLS connections, KB by ~s: ~s", [Connections, Whose, Label]),
    #{run => tls, text => iolist_to_binary(Text), ok => true,
      value => kilobytes(sockpool_bench_rounds:median(Bytes))}.

%% Not every system says what the kernel counts.
kilobytes(undefined) -> undefined;
kilobytes(Bytes) -> round(Bytes / 1000).
