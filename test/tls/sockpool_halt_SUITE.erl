%%% A VM that halts while handshakes are under way ends with the status that it was to end with: OpenSSL takes
%%% itself apart when a process exits, and what runs in a dirty scheduler goes on until the end.
-module(sockpool_halt_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([halt_during_handshakes/1, halt_during_handshakes_after_crypto/1, halt_at_once/1,
         halt_with_a_node_pool/1]).
%% Run in the other VM.
-export([main/1]).

-import(sockpool_tls_kit, [identity/2, pem/2]).

-define(STATUS, 17).

suite() -> [{timetrap, {minutes, 10}}].

all() -> [{group, side_by_side}].

groups() ->
    [{side_by_side, [parallel],
      [halt_during_handshakes, halt_during_handshakes_after_crypto, halt_at_once, halt_with_a_node_pool]}].

init_per_suite(Config) -> sockpool_tls_kit:start(Config).

end_per_suite(Config) -> sockpool_tls_kit:stop(Config).

halt_during_handshakes(Config) -> halts(4, Config, [], "[]").

%% OpenSSL is set up by somebody else first, who lets it take itself apart.
halt_during_handshakes_after_crypto(Config) -> halts(4, Config, [crypto], "[]").

%% Without waiting for what the schedulers do: of these one in ten crashed.
halt_at_once(Config) -> halts(16, Config, [crypto], "[{flush,false}]").

%% Another part of OpenSSL comes first: a digest.
halt_with_a_node_pool(Config) -> halts(6, Config, [node], "[{flush,false}]").

halts(Vms, Config, First, HaltOptions) ->
    Server = sockpool_tls_peers:ssl_server(identity(Config, "server")),
    Args = [atom_to_list(Atom) || Atom <- First],
    Run = fun(N) -> vm([integer_to_list(sockpool_tls_peers:port(Server)), pem(Config, "ca"), HaltOptions,
                        integer_to_list(N rem 40) | Args])
          end,
    Statuses = [Run(N) || N <- lists:seq(1, Vms)],
    ?assertEqual([{?STATUS, Vms}], [{S, length([S || Same <- Statuses, Same =:= S])}
                                     || S <- lists:usort(Statuses)]).

vm(Args) ->
    Erl = filename:join([code:root_dir(), "bin", "erl"]),
    Paths = lists:append([["-pa", filename:dirname(code:which(Module))]
                          || Module <- [?MODULE, sockpool_nif]]),
    Port = open_port({spawn_executable, Erl},
                     [{args, ["+S", "2", "-noinput", "-kernel", "logger_level", "none"] ++ Paths
                           ++ ["-run", atom_to_list(?MODULE), "main" | Args]},
                      exit_status, stderr_to_stdout, in]),
    status(Port).

status(Port) ->
    receive
        {Port, {exit_status, Status}} -> Status;
        {Port, {data, _}} -> status(Port)
    end.

%% New connections all the time: each is thrown away at once.
-spec main([string()]) -> no_return().
main([Port, Ca, HaltOptions, Ms | First]) ->
    [first(What) || What <- First],
    {ok, _} = application:ensure_all_started(sockpool),
    ok = sockpool:start_pool(halting, #{host => "127.0.0.1", port => list_to_integer(Port),
                                             size => 32, max_overflow => 0, transport => tls,
                                             tls => #{cacertfile => Ca, server_name => "localhost",
                                                      session_reuse => false}}),
    {ok, Conn} = sockpool:checkout(halting, infinity),
    ok = sockpool:discard(Conn),
    [spawn(fun discard/0) || _ <- lists:seq(1, 8)],
    {ok, Tokens, _} = erl_scan:string(HaltOptions ++ "."),
    {ok, Options} = erl_parse:parse_term(Tokens),
    receive after list_to_integer(Ms) -> halt(?STATUS, Options) end.

discard() ->
    case sockpool:checkout(halting, infinity) of
        {ok, Conn} -> ok = sockpool:discard(Conn), discard();
        {error, _} -> ok
    end.

first("crypto") ->
    _ = crypto:hash(sha256, <<"first">>);
first("node") ->
    {ok, _} = application:ensure_all_started(sockpool),
    ok = sockpool:start_pool(node, #{transport => node, node => 'nobody@127.0.0.1', port => 1, cookie => abc, size => 1, max_overflow => 0}).
