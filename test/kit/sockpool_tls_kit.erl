%%% What the suites of transport => tls share: pools that trust the authority of
%%% sockpool_tls_peers:certificates/1.
-module(sockpool_tls_kit).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([start/1, stop/1, with_certificates/1, pem/2, key/2, identity/2, s_identity/2]).
-export([pool/3, pool/4, echo/1, echo/2, unavailable/1, with_conn/2, told/1, all_closed/2]).

-import(sockpool_test_util, [stat/2]).
-import(sockpool_tls_peers, [file/2, port/1]).

%% For init_per_suite. No name server is asked about localhost: some take seconds for it.
start(Config) ->
    {ok, _} = application:ensure_all_started(ssl),
    {ok, _} = application:ensure_all_started(sockpool),
    Lookup = inet_db:res_option(lookup),
    ok = inet_db:add_host({127, 0, 0, 1}, ["localhost"]),
    ok = inet_db:set_lookup([file]),
    [{lookup, Lookup} | with_certificates(Config)].

%% In a directory of its own: suites may share priv_dir, and ssl remembers for minutes what was in a file.
with_certificates(Config) ->
    Dir = filename:join(?config(priv_dir, Config),
                        "tls-" ++ integer_to_list(erlang:unique_integer([positive]))),
    ok = file:make_dir(Dir),
    ok = sockpool_tls_peers:certificates(Dir),
    [{tls_dir, Dir} | Config].

stop(Config) ->
    ok = inet_db:set_lookup(?config(lookup, Config)),
    application:stop(sockpool).

pem(Config, Name) -> file(?config(tls_dir, Config), Name ++ ".pem").
key(Config, Name) -> file(?config(tls_dir, Config), Name ++ ".key").

identity(Config, Name) -> [{certfile, pem(Config, Name)}, {keyfile, key(Config, Name)}].

s_identity(Config, Name) -> ["-cert", pem(Config, Name), "-key", key(Config, Name)].

%% A pool of one connection to localhost that trusts the authority.
pool(Config, Server, Opts) -> pool(Config, Server, Opts, #{}).

pool(Config, Server, Opts, Tls) ->
    Pool = ?config(pool, Config),
    Trusting = maps:merge(#{cacertfile => pem(Config, "ca")}, Tls),
    ok = sockpool:start_pool(Pool, maps:merge(#{host => "localhost", port => port(Server),
                                                     size => 1, max_overflow => 0,
                                                     backoff => {1, 50}, connect_timeout => 60000,
                                                     transport => tls, tls => Trusting}, Opts)),
    Pool.

echo(Pool) -> echo(Pool, <<"hello">>).

echo(Pool, Data) ->
    ?assertEqual({ok, Data}, sockpool:request(Pool, Data, byte_size(Data), 10000)).

%% The reason for which connecting fails.
unavailable(Pool) ->
    Reason = sockpool_test_util:unavailable(Pool),
    ?assertEqual(0, stat(Pool, idle)),
    Reason.

with_conn(Pool, Fun) -> sockpool:transaction(Pool, Fun, 10000).

%% What info/1 says of its connection.
told(Pool) ->
    with_conn(Pool, fun(Conn) -> {ok, Info} = sockpool:info(Conn), Info end).

%% The server closes the pool's connections, and the pool has noticed: a request that comes before that
%% would be told `closed'.
all_closed(Server, Pool) ->
    #{total := Total, closed := Closed} = sockpool_test_util:stats(Pool),
    sockpool_test_util:wait_until(
      fun() -> length(sockpool_tls_peers:tell(Server, fun(Socket) -> Socket end)) =:= Total end),
    ok = sockpool_tls_peers:close_connections(Server),
    sockpool_test_util:wait_until(fun() -> stat(Pool, closed) >= Closed + Total end).
