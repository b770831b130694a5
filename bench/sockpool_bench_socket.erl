%% @doc How every client connects: the options of OTP's sockets and of sockpool's, side by side,
%% so that all of them ask for the same.
-module(sockpool_bench_socket).

-export([connect/1, exchange/2, close/1, protection/1, pool_options/1]).
-export_type([socket/0, transport/0]).

-type transport() :: tcp | tls | node | worker.
-type destination() :: #{transport := transport(), port := inet:port_number(), atom() => term()}.
-opaque socket() :: {tcp, gen_tcp:socket()} | {tls, ssl:sslsocket()}.

-define(HOST, {127, 0, 0, 1}).
-define(TIMEOUT_MS, 5000).
-define(TLS_VERSIONS, ['tlsv1.3']).

%% @doc A passive socket of OTP's, set up as sockpool sets up its own.
-spec connect(destination()) -> {ok, socket()} | {error, term()}.
connect(#{transport := tcp, port := Port}) ->
    connected(tcp, gen_tcp:connect(?HOST, Port, tcp_options(), ?TIMEOUT_MS));
connect(#{transport := tls, port := Port}) ->
    connected(tls, ssl:connect(?HOST, Port, tcp_options() ++ tls_options(), ?TIMEOUT_MS)).

connected(Transport, {ok, Socket}) -> {ok, {Transport, Socket}};
connected(_, {error, Reason}) -> {error, Reason}.

tcp_options() ->
    [binary, {active, false}, {packet, raw}, {nodelay, true}].

tls_options() ->
    [{verify, verify_peer}, {cacertfile, sockpool_bench_certificates:cacertfile()},
     {server_name_indication, sockpool_bench_certificates:server_name()},
     {versions, ?TLS_VERSIONS}].

%% @doc What was agreed on with the server.
-spec protection(socket()) -> {ssl:protocol_version(), ssl:erl_cipher_suite()}.
protection({tls, Socket}) ->
    {ok, [{protocol, Protocol}, {selected_cipher_suite, Suite}]} =
        ssl:connection_information(Socket, [protocol, selected_cipher_suite]),
    {Protocol, Suite}.

%% @doc The same for a pool; the rest are sockpool's defaults.
-spec pool_options(destination()) -> map().
pool_options(#{transport := tcp, port := Port}) ->
    #{host => ?HOST, port => Port};
pool_options(#{transport := node, node := Node}) ->
    #{transport => node, node => Node};
pool_options(#{transport := worker}) ->
    #{transport => worker};
pool_options(#{transport := tls, port := Port}) ->
    #{host => ?HOST, port => Port, transport => tls,
      tls => #{verify => peer, cacertfile => sockpool_bench_certificates:cacertfile(),
               server_name => sockpool_bench_certificates:server_name(),
               versions => ?TLS_VERSIONS}}.

%% @doc Sends the bytes and returns as many that came back.
-spec exchange(socket(), binary()) -> {ok, binary()} | {error, term()}.
exchange({tcp, Socket}, Bytes) ->
    case gen_tcp:send(Socket, Bytes) of
        ok -> gen_tcp:recv(Socket, byte_size(Bytes), ?TIMEOUT_MS);
        {error, Reason} -> {error, Reason}
    end;
exchange({tls, Socket}, Bytes) ->
    case ssl:send(Socket, Bytes) of
        ok -> ssl:recv(Socket, byte_size(Bytes), ?TIMEOUT_MS);
        {error, Reason} -> {error, Reason}
    end.

-spec close(socket()) -> ok.
close({tcp, Socket}) ->
    gen_tcp:close(Socket);
%% It is an error if the server was first.
close({tls, Socket}) ->
    _ = ssl:close(Socket),
    ok.
