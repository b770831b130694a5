%%% What the suites of pools of nodes share: a node, pools of it, and functions to be called there.
-module(sockpool_node_kit).

-include_lib("common_test/include/ct.hrl").

-export([init_suite/1, end_suite/1, init_case/2, end_case/0]).
-export([started/2, started/3, checked_out/1, call/3, waiting_call/2, is_waiting/1, tell/3, node_of/1]).
-export([start_apart/2, start_tls_node/1, with_tls_node/2]).
-export([relay/2, swallow/1, print/1, print_later/2, answer_when_told/2, be_killed/0, linger/0,
         nest/1, tell_everybody/0, ask_everybody/0]).

-define(DEADLINE_MS, 60000).

init_suite(Config) ->
    ok = sockpool_cluster:be_a_node(),
    {ok, _} = application:ensure_all_started(sockpool),
    [{peer, sockpool_cluster:start_plain_peer()} | Config].

end_suite(Config) ->
    sockpool_cluster:stop_peer(?config(peer, Config)),
    application:stop(sockpool).

%% A pool's counters live as long as the VM; other suites have cases of these names.
init_case(Case, Config) ->
    #{node := Node} = ?config(peer, Config),
    [{pool, list_to_atom("node_" ++ atom_to_list(Case))}, {node, Node} | Config].

end_case() ->
    lists:foreach(fun sockpool:stop_pool/1, sockpool_test_util:pools()).

%% A pool of one connection, unless the options say otherwise. Connecting has all the time it takes: what
%% it fails with is looked at.
started(Config, Opts) -> started(Config, ?config(node, Config), Opts).

started(Config, Node, Opts) ->
    Pool = ?config(pool, Config),
    Defaults = #{transport => node, node => Node, size => 1, max_overflow => 0, backoff => {1, 50},
                 connect_timeout => 60000},
    ok = sockpool:start_pool(Pool, maps:merge(Defaults, Opts)),
    Pool.

checked_out(Pool) ->
    {ok, Conn} = sockpool:checkout(Pool, ?DEADLINE_MS),
    Conn.

call(To, Function, Args) ->
    sockpool:call(To, ?MODULE, Function, Args, ?DEADLINE_MS).

%% A call that waits there under the name, in a process of its own here.
waiting_call(To, Name) ->
    Self = self(),
    Job = sockpool_test_util:start(fun() -> call(To, answer_when_told, [Name, Self]) end),
    ok = is_waiting(Name),
    Job.

is_waiting(Name) -> receive {waiting, Name} -> ok after ?DEADLINE_MS -> error({not_waiting, Name}) end.

%% Answers a call that waits, by this VM's own connection.
tell(Node, Name, Answer) ->
    {Name, Node} ! {answer, Answer},
    ok.

node_of(Conn) -> sockpool:call(Conn, erlang, node, [], ?DEADLINE_MS).

%% A node that this VM is not connected to otherwise.
start_apart(Name, Args) ->
    Paths = lists:append([["-pa", Path] || Path <- code:get_path()]),
    {ok, Control, Node} = peer:start(#{name => Name, connection => standard_io, wait_boot => ?DEADLINE_MS,
                                       args => ["-connect_all", "false" | Args] ++ Paths}),
    #{control => Control, node => Node, os_pid => peer:call(Control, os, getpid, [])}.

%% A node that takes connections by TLS only, from those who have a certificate of the authority.
start_tls_node(Dir) ->
    File = fun(Name) -> sockpool_tls_peers:file(Dir, Name) end,
    Server = [{certfile, File("server.pem")}, {keyfile, File("server.key")},
              {cacertfile, File("ca.pem")}, {verify, verify_peer}, {fail_if_no_peer_cert, true}],
    Conf = File("dist.conf"),
    ok = file:write_file(Conf, io_lib:format("~p.~n", [[{server, Server}, {client, Server}]])),
    start_apart(peer:random_name(tls), ["-proto_dist", "inet_tls", "-ssl_dist_optfile", Conf]).

%% Fun gets it, and what a pool of it trusts without a certificate of its own, and with one.
with_tls_node(Config, Fun) ->
    Dir = ?config(tls_dir, Config),
    #{control := Control, node := Node} = start_tls_node(Dir),
    File = fun(Name) -> sockpool_tls_peers:file(Dir, Name) end,
    Trust = #{cacertfile => File("ca.pem"), server_name => "localhost"},
    try
        Fun(Node, Trust, Trust#{certfile => File("client.pem"), keyfile => File("client.key")})
    after
        peer:stop(Control)
    end.

%%% On the other node.

%% Sends on what it gets, until it is told to stop.
relay(Name, To) ->
    Parent = self(),
    spawn(fun() ->
                  true = register(Name, self()),
                  Parent ! registered,
                  relay_loop(To)
          end),
    receive registered -> ok end.

relay_loop(To) ->
    receive
        stop -> ok;
        Message -> To ! {relayed, Message}, relay_loop(To)
    end.

swallow(Bytes) -> byte_size(Bytes).

print(Text) -> io:put_chars(Text).

%% Leaves a process behind that prints when it is told to, and what came of it is sent to `To'.
print_later(Name, To) ->
    Parent = self(),
    spawn(fun() ->
                  true = register(Name, self()),
                  Parent ! registered,
                  receive print -> To ! {printed, catch io:put_chars("late")} end
          end),
    receive registered -> ok end.

%% Answers when somebody says so.
answer_when_told(Name, To) ->
    true = register(Name, self()),
    To ! {waiting, Name},
    receive {answer, Answer} -> Answer end.

%% What a node may send to any other that it is connected to.
tell_everybody() ->
    [begin
         {nobody, Node} ! hello,
         {net_kernel, Node} ! {self(), hello},
         _ = monitor(process, {nobody, Node}),
         rpc:cast(Node, erlang, node, [])
     end || Node <- nodes(hidden)],
    ok.

%% What a node may ask any other that it is connected to; it would wait as long as the connection lasts.
ask_everybody() ->
    [begin
         Self = self(),
         {Linked, Monitor} = spawn_monitor(fun() ->
                                                   link(pid_of(Node)),
                                                   Self ! linked,
                                                   linger()
                                           end),
         {net_adm:ping(Node),
          try gen_server:call({nobody, Node}, hello, 20000) catch exit:{Reason, _} -> Reason end,
          catch gen_server:call({net_kernel, Node}, {is_auth, node()}, 20000),
          rpc:call(Node, erlang, node, [], 20000),
          receive {'DOWN', Monitor, process, Linked, Why} -> Why after 20000 -> silent end}
     end || Node <- nodes(hidden)].

%% A pid of that node.
pid_of(Node) ->
    Name = atom_to_binary(Node),
    binary_to_term(<<131, 88, 119, (byte_size(Name)), Name/binary, 99:32, 0:32, 1:32>>).

%% [[[...]]]
nest(Depth) -> lists:foldl(fun(_, Inner) -> [Inner] end, [], lists:seq(1, Depth)).

be_killed() ->
    true = exit(self(), kill),
    linger().

linger() ->
    receive after infinity -> ok end.
