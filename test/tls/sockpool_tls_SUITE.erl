%%% transport => tls on real sockets, against OTP's ssl and openssl s_server: who is trusted, what each
%%% failure is called, what the stream does. More in sockpool_tls_features_SUITE.
-module(sockpool_tls_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, elapsed_ms/1]).
-import(sockpool_tls_peers, [file/2, ssl_server/1, port/1, stop/1, tell/2]).
-import(sockpool_tls_kit, [pem/2, key/2, identity/2, s_identity/2, pool/3, pool/4, echo/1,
                           unavailable/1, with_conn/2]).

all() -> [{group, Name} || {Name, _, _} <- groups()].

groups() ->
    [{trust, [parallel], [ca_file, ca_der, by_address, wrong_host, wrong_address, another_name_is_expected,
                  expired, self_signed, unknown_ca, nobody_is_trusted_by_default, verify_none]},
     {refusals, [parallel], [old_versions_only, plain_tcp, stalled, reset_in_handshake, files_of_no_use,
                     counts_for_backoff, client_certificate_missing]},
     {stream, [parallel], [framings, large, to_a_full_socket, half_close, truncated, reset_in_a_record,
                   empty_record, key_update_when_idle, closed_when_idle, data_when_idle,
                   part_of_data_when_idle]}].

init_per_suite(Config) ->
    sockpool_tls_kit:start(Config).

end_per_suite(Config) ->
    sockpool_tls_kit:stop(Config).

init_per_testcase(Case, Config) -> [{pool, Case} | Config].

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    ok.

%%% Trust.

ca_file(Config) ->
    echo(pool(Config, ssl_server(identity(Config, "server")), #{})).

ca_der(Config) ->
    Ders = [sockpool_tls_peers:der(pem(Config, Ca)) || Ca <- ["other_ca", "ca"]],
    Tls = #{cacertfile => undefined, cacerts => Ders},
    echo(pool(Config, ssl_server(identity(Config, "server")), #{}, Tls)).

by_address(Config) ->
    echo(pool(Config, ssl_server(identity(Config, "server")), #{host => {127, 0, 0, 1}})).

failing(Config, Certificate, Opts, Tls) ->
    unavailable(pool(Config, ssl_server(identity(Config, Certificate)), Opts, Tls)).

wrong_host(Config) ->
    ?assertEqual({tls, hostname_mismatch}, failing(Config, "elsewhere", #{}, #{})).

wrong_address(Config) ->
    ?assertEqual({tls, hostname_mismatch},
                 failing(Config, "elsewhere", #{host => "127.0.0.1"}, #{})).

another_name_is_expected(Config) ->
    Server = ssl_server(identity(Config, "elsewhere")),
    echo(pool(Config, Server, #{}, #{server_name => "elsewhere.example"})),
    ok = sockpool:stop_pool(?config(pool, Config)),
    echo(pool(Config, Server, #{}, #{server_name => "10.9.8.7"})),
    ok = sockpool:stop_pool(?config(pool, Config)),
    ?assertEqual({tls, hostname_mismatch},
                 unavailable(pool(Config, Server, #{}, #{server_name => "elsewhere"}))).

expired(Config) ->
    ?assertEqual({tls, certificate_expired}, failing(Config, "expired", #{}, #{})).

self_signed(Config) ->
    ?assertEqual({tls, self_signed}, failing(Config, "self", #{}, #{})),
    ok = sockpool:stop_pool(?config(pool, Config)),
    %% Whoever names it as trusted means it.
    echo(pool(Config, ssl_server(identity(Config, "self")), #{},
              #{cacertfile => pem(Config, "self")})).

unknown_ca(Config) ->
    ?assertEqual({tls, unknown_ca},
                 failing(Config, "server", #{}, #{cacertfile => pem(Config, "other_ca")})).

%% Without options: the system's store, which does not know our authority.
nobody_is_trusted_by_default(Config) ->
    Pool = ?config(pool, Config),
    Server = ssl_server(identity(Config, "server")),
    ok = sockpool:start_pool(Pool, #{host => "localhost", port => port(Server),
                                          transport => tls}),
    ?assertEqual({tls, unknown_ca}, unavailable(Pool)).

verify_none(Config) ->
    Tls = #{cacertfile => undefined, verify => none},
    [begin
         echo(pool(Config, ssl_server(identity(Config, Name)), #{}, Tls)),
         ok = sockpool:stop_pool(?config(pool, Config))
     end || Name <- ["self", "expired", "elsewhere"]].

%%% Refusals.

old_versions_only(Config) ->
    Server = sockpool_tls_peers:s_server(["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"
                                          | s_identity(Config, "server")]),
    ?assertEqual({tls, protocol_version}, unavailable(pool(Config, Server, #{}))),
    ok = stop(Server).

plain_tcp(Config) ->
    Greeting = sockpool_test_server:start({script, fun(S) ->
        _ = gen_tcp:send(S, "220 mail.example ready\r\n"),
        _ = gen_tcp:recv(S, 0),
        gen_tcp:recv(S, 0)
    end}),
    Pool = pool(Config, #{port => sockpool_test_server:port(Greeting)}, #{}),
    ?assertEqual({tls, not_tls}, unavailable(Pool)).

%% A server that accepts and then says nothing: bounded by connect_timeout, and another pool does not
%% notice.
stalled(Config) ->
    Silent = sockpool_test_server:start(silent),
    Other = stalled_beside,
    Pool = pool(Config, #{port => sockpool_test_server:port(Silent)},
                #{connect_timeout => 300, size => 20}),
    Server = ssl_server(identity(Config, "server")),
    _ = pool([{pool, Other} | Config], Server, #{}),
    {Ms, _} = elapsed_ms(fun() -> echo(Other) end),
    ?assert(Ms < 5000),
    wait_until(fun() -> stat(Pool, connect_failures) > 0 end),
    ?assertEqual({error, {unavailable, timeout}}, sockpool:checkout(Pool, 1000)),
    %% Those whose time was over are gone: their sockets are closed.
    ok = sockpool:stop_pool(Pool),
    wait_until(fun() -> sockpool_test_server:live(Silent) =:= 0 end),
    ok = sockpool:stop_pool(Other).

reset_in_handshake(Config) ->
    Resetting = sockpool_test_server:start({script, fun(S) ->
        _ = gen_tcp:recv(S, 5),
        ok = inet:setopts(S, [{linger, {true, 0}}])
    end}),
    Pool = pool(Config, #{port => sockpool_test_server:port(Resetting)}, #{}),
    ?assert(lists:member(unavailable(Pool), [econnreset, {tls, closed}])).

files_of_no_use(Config) ->
    Start = fun(Tls) ->
                    sockpool:start_pool(?config(pool, Config),
                                        #{host => "localhost", port => 1, transport => tls,
                                          tls => Tls})
            end,
    Cert = pem(Config, "client"),
    Key = file(?config(tls_dir, Config), "client.enc.key"),
    Cases = [{{cacertfile, enoent}, #{cacertfile => "/nonexistent"}},
             {{cacertfile, einval}, #{cacertfile => "/"}},
             {{cacertfile, no_certificate}, #{cacertfile => key(Config, "ca")}},
             {{cacerts, bad_certificate}, #{cacerts => [<<"x">>]}},
             {{certfile, no_certificate}, #{certfile => key(Config, "client")}},
             {{keyfile, no_key}, #{certfile => Cert}},
             {{keyfile, key_does_not_fit_certificate},
              #{certfile => Cert, keyfile => key(Config, "server")}},
             {{password, password_required}, #{certfile => Cert, keyfile => Key}},
             {{password, bad_password},
              #{certfile => Cert, keyfile => Key, password => fun() -> "wrong" end}},
             {{password, raised},
              #{certfile => Cert, keyfile => Key, password => fun() -> error(no) end}},
             {{ciphers, unknown}, #{ciphers => "NO-SUCH-CIPHER"}},
             {{ciphersuites, unknown}, #{ciphersuites => "NO_SUCH_SUITE"}},
             {{groups, unknown}, #{groups => "no-such-group"}},
             {{keylog, enoent}, #{keylog => "/nonexistent/keys"}}],
    [?assertEqual({error, {tls, Reason}}, Start(Tls)) || {Reason, Tls} <- Cases],
    ?assertNot(lists:member(?config(pool, Config), sockpool_test_util:pools())).

counts_for_backoff(Config) ->
    Server = ssl_server(identity(Config, "self")),
    Pool = pool(Config, Server, #{backoff => {60000, 60000}, size => 1}),
    wait_until(fun() -> stat(Pool, connect_failures) =:= 1 end),
    ?assertMatch({error, {unavailable, {tls, self_signed}}}, sockpool:checkout(Pool, 300)),
    ?assert(stat(Pool, connect_attempts) =< 2).

client_certificate_missing(Config) ->
    Server = ssl_server([{verify, verify_peer}, {fail_if_no_peer_cert, true},
                         {cacertfile, pem(Config, "ca")}, {versions, ['tlsv1.2']}
                         | identity(Config, "server")]),
    ?assertEqual({tls, {alert, handshake_failure}}, unavailable(pool(Config, Server, #{}))),
    %% Under 1.3 the client is done before the server has looked: the reason comes with the first
    %% use, or before the connection is ready.
    ok = sockpool:stop_pool(?config(pool, Config)),
    Later = ssl_server([{verify, verify_peer}, {fail_if_no_peer_cert, true},
                        {cacertfile, pem(Config, "ca")}, {versions, ['tlsv1.3']}
                        | identity(Config, "server")]),
    Pool = pool(Config, Later, #{}),
    wait_until(fun() ->
                       case sockpool:request(Pool, "x", 1, 500) of
                           {error, {tls, {alert, certificate_required}}} -> true;
                           {error, {unavailable, {tls, {alert, certificate_required}}}} -> true;
                           Other -> Other
                       end
               end).

%%% The stream.

framings(Config) ->
    Server = ssl_server(identity(Config, "server")),
    [begin
         Pool = pool(Config, Server, #{packet => Packet}),
         ?assertEqual({ok, Message}, sockpool:request(Pool, Message, packet, 10000)),
         ?assertEqual({ok, Message}, sockpool:request(Pool, Message, packet, 10000)),
         ok = sockpool:stop_pool(Pool)
     end || {Packet, Message} <- [{1, <<"a">>}, {2, crypto:strong_rand_bytes(60000)},
                                  {4, crypto:strong_rand_bytes(300000)}, {line, <<"line\n">>}]].

large(Config) ->
    Pool = pool(Config, ssl_server(identity(Config, "server")), #{size => 4}),
    Data = crypto:strong_rand_bytes(3000001),
    Parts = [binary:part(Data, At, min(999, byte_size(Data) - At))
             || At <- lists:seq(0, byte_size(Data) - 1, 999)],
    Ask = fun() -> sockpool:request(Pool, Parts, byte_size(Data), 60000) end,
    [?assert({ok, Data} =:= Answer) || Answer <- sockpool_test_util:run_all(lists:duplicate(8, Ask))],
    settled(Pool).

%% After a send that timed out OpenSSL has half a record on its way: other bytes must not follow it.
to_a_full_socket(Config) ->
    Server = sockpool_tls_peers:ssl_server(identity(Config, "server"), silent),
    Pool = pool(Config, Server, #{sndbuf => 4096, send_timeout => 200}),
    with_conn(Pool, fun(Conn) ->
        ?assertEqual({error, timeout}, sockpool:send(Conn, binary:copy(<<"x">>, 20000000))),
        ?assertEqual({error, closed}, sockpool:send(Conn, "other"))
    end),
    wait_until(fun() -> stat(Pool, closed) =:= 1 end).

%% A pool through a proxy, whose only connection was used.
proxied(Config, Options) ->
    Server = ssl_server(Options ++ identity(Config, "server")),
    Proxy = sockpool_tls_peers:proxy(port(Server)),
    Pool = pool(Config, Proxy, #{}, #{keylog => keys(Config)}),
    echo(Pool),
    {Proxy, Pool}.

keys(Config) -> file(?config(tls_dir, Config), atom_to_list(?config(pool, Config)) ++ ".keys").

%% The server says that it sends no more, and the socket stays open: nothing but the record tells.
half_close(Config) ->
    {Proxy, Pool} = proxied(Config, [{versions, ['tlsv1.3']}]),
    Secret = server_secret(keys(Config)),
    with_conn(Pool, fun(Conn) ->
        sockpool_tls_peers:spoil(Proxy, fun(Client) ->
            ok = gen_tcp:send(Client, [sealed(Secret, 1, data, <<"abc">>),
                                       sealed(Secret, 2, alert, <<1, 0>>)])
        end),
        ?assertEqual({error, closed}, sockpool:recv(Conn, 5)),
        ?assertEqual({error, closed}, sockpool:recv(Conn, 1))
    end),
    wait_until(fun() -> stat(Pool, closed) =:= 1 end).

truncated(Config) ->
    {Proxy, Pool} = proxied(Config, []),
    with_conn(Pool, fun(Conn) ->
        ok = sockpool_tls_peers:spoil(Proxy, fun(Client) -> gen_tcp:shutdown(Client, write) end),
        ?assertEqual({error, {tls, truncated}}, sockpool:recv(Conn, 1)),
        ?assertEqual({error, {tls, truncated}}, sockpool:recv(Conn, 1))
    end),
    echo(Pool).

reset_in_a_record(Config) ->
    {Proxy, Pool} = proxied(Config, []),
    with_conn(Pool, fun(Conn) ->
        sockpool_tls_peers:spoil(Proxy, fun(Client) ->
            ok = gen_tcp:send(Client, <<23, 3, 3, 100:16, "some">>)
        end),
        ?assertEqual({error, timeout}, sockpool:recv(Conn, 1, 100)),
        sockpool_tls_peers:spoil(Proxy, fun(Client) ->
            ok = inet:setopts(Client, [{linger, {true, 0}}]),
            ok = gen_tcp:close(Client)
        end),
        ?assertEqual({error, econnreset}, sockpool:recv(Conn, 1))
    end),
    echo(Pool).

%% No server makes one: it is forged with the key from the key log, and one with data after it.
empty_record(Config) ->
    {Proxy, Pool} = proxied(Config, [{versions, ['tlsv1.3']}]),
    Secret = server_secret(keys(Config)),
    with_conn(Pool, fun(Conn) ->
        %% The echo in proxied/2 was the server's record number 0.
        sockpool_tls_peers:spoil(Proxy, fun(Client) ->
            ok = gen_tcp:send(Client, sealed(Secret, 1, data, <<>>))
        end),
        ?assertEqual({error, timeout}, sockpool:recv(Conn, 0, 100)),
        sockpool_tls_peers:spoil(Proxy, fun(Client) ->
            ok = gen_tcp:send(Client, sealed(Secret, 2, data, <<"data">>))
        end),
        ?assertEqual({ok, <<"data">>}, sockpool:recv(Conn, 0))
    end).

server_secret(Path) ->
    {ok, Keys} = file:read_file(Path),
    Lines = [binary:split(Line, <<" ">>, [global]) || Line <- binary:split(Keys, <<"\n">>, [global])],
    [Hex | _] = lists:reverse([Hex || [<<"SERVER_TRAFFIC_SECRET_0">>, _, Hex] <- Lines]),
    binary:decode_hex(Hex).

%% RFC 8446, sections 5.2, 5.3 and 7.3, for TLS_AES_256_GCM_SHA384.
sealed(Secret, Number, Kind, Data) ->
    Type = case Kind of data -> 23; alert -> 21 end,
    <<Iv:96>> = expand(Secret, <<"iv">>, 12),
    Header = <<23, 3, 3, (byte_size(Data) + 1 + 16):16>>,
    {Text, Tag} = crypto:crypto_one_time_aead(aes_256_gcm, expand(Secret, <<"key">>, 32),
                                              <<(Iv bxor Number):96>>, <<Data/binary, Type>>,
                                              Header, true),
    [Header, Text, Tag].

expand(Secret, Name, Length) ->
    Label = <<"tls13 ", Name/binary>>,
    Info = <<Length:16, (byte_size(Label)), Label/binary, 0, 1>>,
    binary:part(crypto:mac(hmac, sha384, Secret, Info), 0, Length).

%% `K' asks for new keys both ways. The pool takes it in by itself once the connection has been idle
%% for long enough to be watched; what follows goes under the new keys.
key_update_when_idle(Config) ->
    Server = sockpool_tls_peers:s_server(["-tls1_3", "-msg" | s_identity(Config, "server")]),
    Pool = pool(Config, Server, #{}),
    settled(Pool),
    [begin
         ok = sockpool_tls_peers:command(Server, "K\n"),
         ok = sockpool_tls_peers:output_has(Server, <<">>> TLS 1.3, Handshake [length 0005], KeyUpdate">>),
         wait_until(fun() -> unread_from(port(Server)) =:= 0 end),
         with_conn(Pool, fun(Conn) ->
             ok = sockpool:send(Conn, "ask\n"),
             ok = sockpool_tls_peers:output_has(Server, <<"ask\n">>),
             ok = sockpool_tls_peers:command(Server, "answer\n"),
             ?assertEqual({ok, <<"answer\n">>}, sockpool:recv(Conn, 7))
         end)
     end || _ <- lists:seq(1, 3)],
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)),
    ok = stop(Server).

%% Bytes from this port that the system has for us and we have not taken, as Linux tells it.
unread_from(Port) ->
    {ok, Table} = file:read_file("/proc/net/tcp"),
    [_ | Rows] = binary:split(Table, <<"\n">>, [global, trim]),
    From = list_to_binary(io_lib:format("0100007F:~4.16.0B", [Port])),
    lists:sum([binary_to_integer(binary:part(Queues, 9, 8), 16)
               || Row <- Rows, [_, _, Remote, <<"01">>, Queues | _] <- [fields(Row)], Remote =:= From]).

fields(Row) -> [Field || Field <- binary:split(Row, <<" ">>, [global]), Field =/= <<>>].

closed_when_idle(Config) ->
    Server = ssl_server(identity(Config, "server")),
    Pool = pool(Config, Server, #{size => 3}),
    settled(Pool),
    ok = sockpool_tls_kit:all_closed(Server, Pool),
    ?assertEqual(3, stat(Pool, closed)),
    echo(Pool).

data_when_idle(Config) ->
    Server = ssl_server(identity(Config, "server")),
    Pool = pool(Config, Server, #{}),
    settled(Pool),
    wait_until(fun() -> length(tell(Server, fun(S) -> S end)) =:= 1 end),
    [ok] = tell(Server, fun(Socket) -> ssl:send(Socket, "unasked") end),
    wait_until(fun() -> stat(Pool, closed) =:= 1 end),
    echo(Pool).

%% The header of a record, or a bit more: the rest would go to whoever is the next to receive.
part_of_data_when_idle(Config) ->
    {Proxy, Pool} = proxied(Config, [{versions, ['tlsv1.3']}]),
    [begin
         Secret = server_secret(keys(Config)),
         <<Part:Length/binary, _/binary>> = iolist_to_binary(sealed(Secret, 1, data, <<"unasked">>)),
         ok = sockpool_tls_peers:spoil(Proxy, fun(Client) -> gen_tcp:send(Client, Part) end),
         wait_until(fun() -> stat(Pool, closed) =:= Closed end),
         echo(Pool)
     end || {Length, Closed} <- [{5, 1}, {15, 2}]].
