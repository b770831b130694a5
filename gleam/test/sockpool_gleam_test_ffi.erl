%%% What the Gleam tests need of Erlang: a runner, servers from the project's own tests, processes,
%%% and crashes that are caught.
-module(sockpool_gleam_test_ffi).

-include_lib("stdlib/include/assert.hrl").

-export([run/1, equal/2, crashes/1, start/1, await/1, wait_until/1, self/0, dead/0]).
-export([echo/0, silent/0, greeting/1, resetting/0, closing/0, refusing/0, unix_echo/1]).
-export([port/1, up/1, accepted/1, close_connections/1]).
-export([certificates/0, tls_echo/2, starttls_echo/1, tls_close_connections/1, free_name/1]).
-export([supervised/1, restart/1, stop_supervisor/1]).
-export([start_node/0, start_c_node/0, node_name/1, stop_node/1, end_node/1]).
-export([repeat/2, copies/2, size/1, now_ms/0, kill/1, stop_sockpool/0, no_name_server/0, reason/1, term/1]).

-define(TEST_TIMEOUT_S, 60).
-define(CERTIFICATES, {?MODULE, certificates}).

%% Runs each function whose name ends in _test, as `gleam test' does, and ends the VM.
-spec run([binary()]) -> no_return().
run(Names) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Modules = [binary_to_atom(Name) || Name <- Names],
    Tests = [{atom_to_list(Module), tests(Module)} || Module <- Modules],
    Result = eunit:test(Tests),
    _ = file:del_dir_r(persistent_term:get(?CERTIFICATES, <<"none">>)),
    case Result of
        ok -> halt(0);
        error -> halt(1)
    end.

tests(Module) ->
    {module, Module} = code:ensure_loaded(Module),
    Names = [Name || {Name, 0} <- Module:module_info(exports),
                     lists:suffix("_test", atom_to_list(Name))],
    ?assertNotEqual([], Names),
    [{spawn, {timeout, ?TEST_TIMEOUT_S, {atom_to_list(Name), fun() -> alone(fun Module:Name/0) end}}}
     || Name <- Names].

%% Without the pools that a test before it has left by its failure.
alone(Test) ->
    {ok, Names} = sockpool:which_pools(),
    _ = [sockpool:stop_pool(Name) || Name <- Names],
    Test().

-spec equal(A, A) -> nil.
equal(Expected, Actual) ->
    ?assertEqual(Expected, Actual),
    nil.

-spec crashes(fun(() -> term())) -> {ok, term()} | {error, term()}.
crashes(Fun) ->
    try {ok, Fun()}
    catch _:Reason -> {error, Reason}
    end.

%%% Processes.

-spec start(fun(() -> term())) -> sockpool_test_util:job().
start(Fun) -> sockpool_test_util:start(Fun).

-spec await(sockpool_test_util:job()) -> term().
await(Job) -> sockpool_test_util:await(Job).

-spec wait_until(fun(() -> boolean())) -> nil.
wait_until(Condition) ->
    ok = sockpool_test_util:wait_until(Condition),
    nil.

-spec self() -> pid().
self() -> erlang:self().

%% A process that is no more.
-spec dead() -> pid().
dead() ->
    {Pid, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Pid, _} -> Pid end.

%% Kills a job and waits for its end.
-spec kill(sockpool_test_util:job()) -> nil.
kill({Pid, Monitor, _Tag}) ->
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, killed} -> nil end.

%%% Servers. They stop with the test.

-spec echo() -> map().
echo() -> sockpool_test_server:start().

-spec silent() -> map().
silent() -> sockpool_test_server:start(silent).

%% Says this line on each connection, then echoes.
-spec greeting(binary()) -> map().
greeting(Line) ->
    sockpool_test_server:start({script, fun(Socket) ->
                                                ok = gen_tcp:send(Socket, Line),
                                                echo_loop(Socket)
                                        end}).

echo_loop(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Data} ->
            _ = gen_tcp:send(Socket, Data),
            echo_loop(Socket);
        {error, _} ->
            ok
    end.

%% Resets a connection when its first bytes have come.
-spec resetting() -> map().
resetting() ->
    sockpool_test_server:start({script, fun(Socket) ->
                                                _ = gen_tcp:recv(Socket, 0),
                                                ok = inet:setopts(Socket, [{linger, {true, 0}}])
                                        end}).

%% Closes a connection, in an orderly way, when its first bytes have come.
-spec closing() -> map().
closing() ->
    sockpool_test_server:start({reply, fun(_Data) -> close end}).

%% Nobody listens there.
-spec refusing() -> map().
refusing() -> sockpool_test_server:start(echo, #{listen => false}).

-spec unix_echo(binary()) -> map().
unix_echo(Path) -> sockpool_test_server:start(echo, #{path => binary_to_list(Path)}).

-spec port(map()) -> inet:port_number().
port(#{port := Port}) -> Port.

-spec up(map()) -> nil.
up(Server) ->
    ok = sockpool_test_server:up(Server),
    nil.

-spec accepted(map()) -> non_neg_integer().
accepted(Server) -> sockpool_test_server:accepted(Server).

-spec close_connections(map()) -> nil.
close_connections(Server) ->
    ok = sockpool_test_server:close_connections(Server),
    nil.

%% A directory with certificates; see sockpool_tls_peers.
-spec certificates() -> binary().
certificates() ->
    case persistent_term:get(?CERTIFICATES, undefined) of
        undefined ->
            {ok, _} = application:ensure_all_started(ssl),
            Dir = free_name(<<"/tmp/sockpool-gleam-">>),
            ok = file:make_dir(Dir),
            ok = sockpool_tls_peers:certificates(binary_to_list(Dir)),
            ok = persistent_term:put(?CERTIFICATES, Dir),
            Dir;
        Dir ->
            Dir
    end.

-spec tls_echo(binary(), [binary()]) -> map().
tls_echo(Identity, Protocols) ->
    Path = filename:join(certificates(), Identity),
    sockpool_tls_peers:ssl_server([{certfile, <<Path/binary, ".pem">>},
                                   {keyfile, <<Path/binary, ".key">>}
                                   | [{alpn_preferred_protocols, Protocols} || Protocols =/= []]]).

-spec starttls_echo(binary()) -> map().
starttls_echo(Identity) ->
    Path = filename:join(certificates(), Identity),
    Options = [{certfile, <<Path/binary, ".pem">>}, {keyfile, <<Path/binary, ".key">>}, {log_level, none}],
    sockpool_test_server:start({script, fun(Socket) ->
        {ok, First} = gen_tcp:recv(Socket, 1),
        ok = gen_tcp:send(Socket, First),
        case ssl:handshake(Socket, Options, 30000) of
            {ok, Secure} -> echo_secure(Secure);
            {error, _} -> ok
        end
    end}).

echo_secure(Secure) ->
    case ssl:recv(Secure, 0) of
        {ok, Data} ->
            _ = ssl:send(Secure, Data),
            echo_secure(Secure);
        {error, _} ->
            ok
    end.

-spec tls_close_connections(map()) -> nil.
tls_close_connections(Server) ->
    ok = sockpool_tls_peers:close_connections(Server),
    nil.

-spec free_name(binary()) -> binary().
free_name(Prefix) ->
    iolist_to_binary([Prefix, os:getpid(), "-",
                      integer_to_list(erlang:unique_integer([positive]))]).

%%% Supervision.

%% A supervisor with this one child; and the child.
-spec supervised(supervisor:child_spec()) -> {pid(), pid()}.
supervised(ChildSpec) ->
    {ok, Supervisor} = supervisor:start_link(sockpool_gleam_test_sup, ChildSpec),
    {Supervisor, child(Supervisor)}.

%% Kills the child; the one that the supervisor starts in its place.
-spec restart(pid()) -> pid().
restart(Supervisor) ->
    Child = child(Supervisor),
    exit(Child, kill),
    sockpool_test_util:wait_until(fun() ->
        New = child(Supervisor),
        is_pid(New) andalso New =/= Child
    end),
    child(Supervisor).

child(Supervisor) ->
    [{_Id, Child, worker, _Modules}] = supervisor:which_children(Supervisor),
    Child.

-spec stop_supervisor(pid()) -> nil.
stop_supervisor(Supervisor) ->
    true = unlink(Supervisor),
    ok = gen_server:stop(Supervisor, shutdown, infinity),
    nil.

-spec stop_sockpool() -> nil.
stop_sockpool() ->
    ok = application:stop(sockpool),
    nil.

%%% Another node, on which sockpool runs.

-spec start_node() -> sockpool_cluster:peer().
start_node() ->
    ok = sockpool_cluster:be_a_node(),
    sockpool_cluster:start_peer().

-spec start_c_node() -> {ok, sockpool_c_daemon:daemon()} | {error, nil}.
start_c_node() ->
    ok = sockpool_cluster:be_a_node(),
    case sockpool_c_daemon:is_built() of
        true -> {ok, sockpool_c_daemon:start()};
        false ->
            io:put_chars(user, "  priv/sockpool_node is not built: no test of it\n"),
            {error, nil}
    end.

-spec node_name(sockpool_cluster:peer() | sockpool_c_daemon:daemon()) -> binary().
node_name(#{node := Node}) -> atom_to_binary(Node).

-spec stop_node(sockpool_cluster:peer() | sockpool_c_daemon:daemon()) -> nil.
stop_node(#{control := _} = Peer) ->
    ok = sockpool_cluster:kill_vm(Peer),
    nil;
stop_node(#{node := Node} = Daemon) ->
    true = monitor_node(Node, true),
    ok = sockpool_c_daemon:kill(Daemon),
    receive {nodedown, Node} -> nil end.

-spec end_node(sockpool_cluster:peer()) -> nil.
end_node(Peer) ->
    ok = sockpool_cluster:stop_peer(Peer),
    nil.

%%% The rest.

%% No name server is asked, so that a name which nobody knows is unknown at once.
-spec no_name_server() -> nil.
no_name_server() ->
    ok = inet_db:set_lookup([file]),
    nil.

-spec repeat(non_neg_integer(), fun((non_neg_integer()) -> A)) -> [A].
repeat(Times, Fun) -> [Fun(N) || N <- lists:seq(1, Times)].

-spec copies(binary(), non_neg_integer()) -> binary().
copies(Data, Times) -> binary:copy(Data, Times).

-spec size(binary()) -> non_neg_integer().
size(Data) -> byte_size(Data).

-spec now_ms() -> integer().
now_ms() -> erlang:monotonic_time(millisecond).

%% What sockpool would have to answer, in Erlang's notation; what Gleam sees of it.
-spec reason(binary()) -> term().
reason(Text) -> sockpool_gleam_ffi:reason(term(Text)).

%% What is written so in Erlang.
-spec term(binary()) -> term().
term(Text) ->
    {ok, Tokens, _} = erl_scan:string(binary_to_list(Text) ++ "."),
    {ok, Term} = erl_parse:parse_term(Tokens),
    Term.
