%%% A server that refuses the client's certificate. Under TLS 1.3 the client's handshake is done before
%%% the server has looked, and the alert comes a round trip later. Here that is when the test says.
-module(sockpool_tls_refusal_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([counts_for_backoff/1, of_an_idle_connection/1, is_an_outage/1]).

-import(sockpool_test_util, [wait_until/1, stats/1, stat/2]).
-import(sockpool_tls_peers, [ssl_server/1, port/1]).
-import(sockpool_tls_kit, [pem/2, identity/2, pool/3]).

%% The delay is anything up to this.
-define(BACKOFF_MS, 3600000).
-define(REFUSED, {tls, {alert, certificate_required}}).

all() -> [{group, side_by_side}, is_an_outage].

groups() -> [{side_by_side, [parallel], [counts_for_backoff, of_an_idle_connection]}].

init_per_suite(Config) -> sockpool_tls_kit:start(Config).
end_per_suite(Config) -> sockpool_tls_kit:stop(Config).

init_per_testcase(Case, Config) ->
    Server = ssl_server([{verify, verify_peer}, {fail_if_no_peer_cert, true},
                         {cacertfile, pem(Config, "ca")}, {versions, ['tlsv1.3']}
                         | identity(Config, "server")]),
    [{pool, list_to_atom("refusal_" ++ atom_to_list(Case))}, {server, Server} | Config].

end_per_testcase(_Case, Config) -> sockpool:stop_pool(?config(pool, Config)).

%% Who has the connection gets the alert. Nobody gets another connection before the backoff's time.
counts_for_backoff(Config) ->
    {Pool, Relay} = pool_that_is_ready(Config),
    {ok, Conn} = sockpool:checkout(Pool, 30000),
    Relay ! pass,
    ?assertEqual({error, ?REFUSED}, sockpool:recv(Conn, 0, 30000)),
    ok = sockpool:checkin(Conn),
    ?assertEqual({error, {unavailable, ?REFUSED}}, sockpool:checkout(Pool, 2000)),
    ?assertMatch(#{connect_attempts := 1, created := 1, closed := 1}, stats(Pool)).

%% The pool finds out by itself, or the next user's check-out does.
of_an_idle_connection(Config) ->
    {Pool, Relay} = pool_that_is_ready(Config),
    Relay ! pass,
    wait_until(fun() -> stat(Pool, closed) =:= 1 end),
    ?assertEqual({error, {unavailable, ?REFUSED}}, sockpool:checkout(Pool, 2000)),
    ?assertMatch(#{connect_attempts := 1}, stats(Pool)).

%% Logged as one, whatever the attempt was that made the connection: by a pool here, and by the daemon's.
is_an_outage(Config) ->
    {Pool, Relay} = pool_that_is_ready(Config),
    ok = sockpool_test_log:hear(Pool),
    Relay ! pass,
    Line = sockpool_test_log:next_line(),
    ok = sockpool_test_log:forget(Pool),
    [?assertNotEqual({nomatch, Part, Line}, {string:find(Line, Part), Part, Line})
     || Part <- [atom_to_list(Pool), "cannot connect to localhost", "certificate_required"]],
    ok = case sockpool_c_daemon:is_built() of true -> of_the_daemon(Config); false -> ok end.

of_the_daemon(Config) ->
    ok = sockpool_cluster:be_a_node(),
    #{node := Node} = Daemon = sockpool_c_daemon:start(),
    ok = sockpool:start_pool({refused, Node},
                             #{transport => tls, host => "localhost", port => port(?config(server, Config)), size => 1,
                               max_overflow => 0, tls => #{cacertfile => pem(Config, "ca")}}),
    Line = sockpool_c_daemon:await_line(Daemon, "event=cannot_connect"),
    [?assertNotEqual({nomatch, Part, Line}, {string:find(Line, Part), Part, Line})
     || Part <- ["transport=tls", "certificate", lists:concat(["address=127.0.0.1:", port(?config(server, Config))])]],
    ?assertEqual(0, sockpool_c_daemon:stop(Daemon)),
    ok.

pool_that_is_ready(Config) ->
    Relay = relay(port(?config(server, Config))),
    Pool = pool(Config, #{port => relay_port(Relay)}, #{backoff => {?BACKOFF_MS, ?BACKOFF_MS}}),
    wait_until(fun() -> stat(Pool, idle) =:= 1 end),
    {Pool, Relay}.

%%% A relay of one connection. Once the client has answered the server's part of the handshake, it keeps
%%% what the server says until it is told to pass that on.

relay(To) ->
    Test = self(),
    spawn_link(fun() ->
        {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}]),
        {ok, Port} = inet:port(Listener),
        Test ! {self(), Port},
        {ok, Client} = gen_tcp:accept(Listener),
        {ok, Server} = gen_tcp:connect({127, 0, 0, 1}, To, [binary]),
        relay_handshake(Client, Server, 0)
    end).

relay_port(Relay) ->
    receive {Relay, Port} -> Port after 30000 -> error(no_relay) end.

relay_handshake(Client, Server, Heard) ->
    receive
        {tcp, Client, Data} ->
            ok = gen_tcp:send(Server, Data),
            case Heard of
                0 -> relay_handshake(Client, Server, 0);
                _ -> relay_held(Client, Server, [])
            end;
        {tcp, Server, Data} ->
            ok = gen_tcp:send(Client, Data),
            relay_handshake(Client, Server, Heard + 1)
    end.

relay_held(Client, Server, Held) ->
    receive
        {tcp, Client, Data} ->
            _ = gen_tcp:send(Server, Data),
            relay_held(Client, Server, Held);
        {tcp, Server, Data} ->
            relay_held(Client, Server, [Held, Data]);
        {tcp_closed, Server} ->
            receive pass -> ok end,
            ok = gen_tcp:send(Client, Held),
            receive {tcp_closed, Client} -> ok end
    end.
