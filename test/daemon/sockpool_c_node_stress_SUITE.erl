%%% Everything that clients of the daemon priv/sockpool_node do, at once and at random, from two nodes and on
%%% five pools, in two of which requests share connections, while clients are killed, connections of nodes and servers are lost, and a pool is stopped and
%%% started. Every call has one of the results that it may have; afterwards nothing is left, to the last
%%% connection and descriptor.
%%%
%%% SOCKPOOL_OPS in the environment is how much each client does, 150 by default; SOCKPOOL_SEED seeds it.
-module(sockpool_c_node_stress_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([everything_at_once/1]).
-export([work/4]).

-import(sockpool_test_util, [wait_until/1, settled/1]).
-import(sockpool_tls_kit, [pem/2, identity/2]).

-define(CLIENTS, 40).
%% Whoever gets a reply gets that to its own request.
-define(PIPED, #{packet => 4, pipeline => 16, pipeline_stall => 2000}).
-define(OPTS, #{size => 3, max_overflow => 3, overflow_ttl => 50, backoff => {1, 20},
                connect_timeout => 20000, max_hold => 2000}).

suite() -> [{timetrap, {minutes, 30}}].

all() -> [everything_at_once].

init_per_suite(Config) ->
    sockpool_c_daemon:if_built(fun() -> sockpool_remote_kit:init_suite(sockpool_tls_kit:start(Config)) end).

end_per_suite(Config) ->
    sockpool_remote_kit:end_suite(Config),
    sockpool_tls_kit:stop(Config).

everything_at_once(Config) ->
    Ops = list_to_integer(os:getenv("SOCKPOOL_OPS", "150")),
    Seed = ?config(seed, Config),
    ct:pal("SOCKPOOL_SEED=~b SOCKPOOL_OPS=~b", [Seed, Ops]),
    #{node := Node} = Daemon = sockpool_c_daemon:start(),
    #{node := Other} = ?config(other, Config),
    Tcp = sockpool_test_server:start(),
    Local = sockpool_test_server:start(echo, #{path => sockpool_test_util:unix_path()}),
    Tls = sockpool_tls_peers:ssl_server(identity(Config, "server")),
    TlsOpts = #{host => "localhost", port => sockpool_tls_peers:port(Tls), transport => tls,
                tls => #{cacertfile => pem(Config, "ca")}},
    Pools = [{{tcp, Node}, sockpool_test_server:target(Tcp)},
             {{local, Node}, sockpool_test_server:target(Local)}, {{tls, Node}, TlsOpts},
             {{piped, Node}, maps:merge(?PIPED, sockpool_test_server:target(Tcp))},
             {{piped_tls, Node}, maps:merge(?PIPED, TlsOpts)}],
    {ok, []} = sockpool:which_pools(Node),
    true = erpc:call(Other, net_kernel, connect_node, [Node]),
    Before = sockpool_c_daemon:descriptors(Daemon),
    [ok = sockpool:start_pool(Pool, maps:merge(?OPTS, Opts)) || {Pool, Opts} <- Pools],
    Names = [Pool || {Pool, _} <- Pools],
    ok = rounds(Ops, Names, [node(), Other], Seed,
                fun(Round) -> trouble(Round, Node, Pools, [Tcp, Local]) end),
    ok = wait_until(fun() -> sockpool:which_pools(Node) =/= {error, {nodedown, Node}} end),
    {ok, #{pipelined := Pipelined}} = sockpool:stats({piped_tls, Node}),
    ?assert(Pipelined > 0),
    [begin
         #{leased := 0, waiting := 0, total := Total} = Stats = settled(Pool),
         ct:pal("~p", [Stats]),
         ?assert(Total =< 6)
     end || Pool <- Names],
    [ok = sockpool:stop_pool(Pool) || Pool <- Names],
    true = erpc:call(Other, net_kernel, connect_node, [Node]),
    ok = wait_until(fun() -> sockpool_c_daemon:descriptors(Daemon) =:= Before
                                 orelse sockpool_c_daemon:descriptors(Daemon) end),
    ?assertEqual(0, sockpool_c_daemon:stop(Daemon)).

%% In each round every client does a few things; then some trouble is made while they go on.
rounds(Ops, Pools, Nodes, Seed, Trouble) ->
    Clients = [{spawn_monitor(lists:nth(1 + N rem 2, Nodes), ?MODULE, work,
                              [self(), Pools, Ops, {Seed, N, 0}]), N}
               || N <- lists:seq(1, ?CLIENTS)],
    collect(maps:from_list([{Pid, Monitor} || {{Pid, Monitor}, _} <- Clients]), 0, Trouble).

collect(Left, _Round, _Trouble) when map_size(Left) =:= 0 ->
    ok;
collect(Left, Round, Trouble) ->
    receive
        {'DOWN', _, process, Pid, Reason} when is_map_key(Pid, Left) ->
            %% Those that kill each other, and those that die with what they have.
            true = lists:member(Reason, [normal, killed, dropped_dead]) orelse error({Pid, Reason}),
            collect(maps:remove(Pid, Left), Round, Trouble);
        {progress, _Pid} ->
            ok = Trouble(Round),
            collect(Left, Round + 1, Trouble)
    end.

trouble(Round, Node, Pools, Servers) ->
    {First, FirstOpts} = hd(Pools),
    Piped = {piped, Node},
    case Round rem 100 of
        20 -> true = lists:member(sockpool:stop_pool(First), stopped(Node));
        21 -> start_again(First, FirstOpts, Node);
        40 -> true = lists:member(sockpool:stop_pool(Piped), stopped(Node));
        41 -> start_again(Piped, proplists:get_value(Piped, Pools), Node);
        50 -> [ok = sockpool_test_server:close_connections(Server) || Server <- Servers], ok;
        70 -> _ = erlang:disconnect_node(Node), ok;
        80 -> [ok = sockpool_test_server:down(Server) || Server <- Servers],
              [ok = sockpool_test_server:up(Server) || Server <- Servers],
              ok;
        _ -> ok
    end,
    ok.

stopped(Node) -> [ok, {error, not_found}, {error, {nodedown, Node}}].

start_again(Pool, Opts, Node) ->
    case sockpool:start_pool(Pool, maps:merge(?OPTS, Opts)) of
        ok -> ok;
        {error, {already_started, _}} -> ok;
        {error, {nodedown, Node}} -> start_again(Pool, Opts, Node)
    end.

%%% A client.

-spec work(pid(), [sockpool:pool()], non_neg_integer(), {integer(), integer(), integer()}) -> ok.
work(Tester, Pools, Ops, Seed) ->
    _ = rand:seed(exsss, Seed),
    [begin
         Pool = lists:nth(rand:uniform(length(Pools)), Pools),
         Result = operation(rand:uniform(14), Pool),
         allowed(Result) orelse error({result, Pool, Result}),
         N rem 10 =:= 0 andalso (Tester ! {progress, self()})
     end || N <- lists:seq(1, Ops)],
    ok.

operation(N, {Name, _} = Pool) when Name =:= piped; Name =:= piped_tls -> piped(N, Pool);
operation(N, Pool) when N =< 3 -> echo(Pool, rand:bytes(rand:uniform(200)), 10000);
operation(4, Pool) -> echo(Pool, rand:bytes(200000), 20000);
operation(5, Pool) -> echo(Pool, <<"soon">>, rand:uniform(3) - 1);
operation(N, Pool) when N =< 8 -> with(Pool, fun(Conn) -> exchange(Conn, rand:bytes(100)) end);
operation(9, Pool) -> with(Pool, fun(Conn) -> sockpool:recv(Conn, 1, rand:uniform(5) - 1) end);
operation(10, Pool) -> with(Pool, fun inspect/1);
operation(11, Pool) -> in_a_client_that_dies(Pool);
operation(12, Pool) -> given_away(Pool);
operation(13, {_, Node}) -> sockpool:node_stats(Node);
operation(14, {Name, Node}) -> impatient(Name, Node).

piped(N, Pool) when N =< 6 -> ask(Pool, rand:bytes(rand:uniform(200)), 10000);
piped(7, Pool) -> ask(Pool, rand:bytes(200000), 20000);
piped(N, Pool) when N =< 9 -> ask(Pool, rand:bytes(40), rand:uniform(5) - 1);
piped(10, Pool) -> with(Pool, fun(Conn) -> exchange(Conn, rand:bytes(100), packet) end);
piped(N, Pool) when N =< 12 ->
    Victims = [spawn(fun() -> _ = ask(Pool, rand:bytes(100 * M), 10000) end) || M <- lists:seq(1, 5)],
    Result = ask(Pool, rand:bytes(30), 10000),
    [exit(Victim, kill) || Victim <- Victims],
    Result;
piped(13, {Name, Node}) ->
    Id = make_ref(),
    try gen_server:call({sockpool, Node}, {request, Id, Name, <<"impatient">>, packet, infinity}, rand:uniform(3) - 1) of
        {ok, <<"impatient">>} -> ok;
        Error -> Error
    catch
        exit:{timeout, _} -> gen_server:cast({sockpool, Node}, {cancel, Id});
        exit:{{nodedown, _}, _} -> ok
    end;
piped(14, Pool) -> with(Pool, fun inspect/1).

ask(Pool, Data, Timeout) -> answered(Data, sockpool:request(Pool, Data, packet, Timeout)).

answered(Data, {ok, Data}) -> ok;
answered(_Data, {ok, Wrong}) -> {wrong, byte_size(Wrong)};
answered(_Data, Error) -> Error.

echo(Pool, Data, Timeout) -> answered(Data, sockpool:request(Pool, Data, byte_size(Data), Timeout)).

with(Pool, Fun) ->
    case sockpool:checkout(Pool, lists:nth(rand:uniform(3), [0, 2, 10000])) of
        {ok, Conn} ->
            Result = Fun(Conn),
            case rand:uniform(4) of
                1 -> true = allowed(sockpool:discard(Conn));
                _ -> true = allowed(sockpool:checkin(Conn))
            end,
            Result;
        Error ->
            Error
    end.

exchange(Conn, Data) -> exchange(Conn, Data, byte_size(Data)).

exchange(Conn, Data, Length) ->
    case sockpool:send(Conn, Data, 10000) of
        ok -> answered(Data, sockpool:recv(Conn, Length, 10000));
        Error -> Error
    end.

inspect(Conn) ->
    Results = [sockpool:info(Conn), sockpool:peername(Conn), sockpool:sockname(Conn),
               sockpool:setopts(Conn, [{packet, 2}]), sockpool:setopts(Conn, [{packet, raw}])],
    case [Result || Result <- Results, not allowed(Result)] of
        [] -> ok;
        [First | _] -> First
    end.

%% With whatever it has or is doing.
in_a_client_that_dies(Pool) ->
    {Pid, Monitor} = spawn_monitor(fun() ->
                                           _ = with(Pool, fun(Conn) -> use_and_die(Conn) end),
                                           _ = sockpool:request(Pool, "x", 2, infinity)
                                   end),
    receive {'DOWN', Monitor, process, Pid, _} -> ok
    after rand:uniform(5) - 1 -> ok
    end,
    exit(Pid, kill),
    true = demonitor(Monitor, [flush]),
    ok.

use_and_die(Conn) ->
    case rand:uniform(3) of
        1 -> exit(dropped_dead);
        2 -> _ = sockpool:send(Conn, "x"), exit(dropped_dead);
        3 -> sockpool:recv(Conn, 1, infinity)
    end.

given_away(Pool) ->
    Heir = spawn(fun() -> receive {yours, Conn} -> exchange(Conn, <<"heir">>), sockpool:checkin(Conn) end end),
    case sockpool:checkout(Pool, 10000) of
        {ok, Conn} ->
            Given = sockpool:give_away(Conn, Heir),
            Heir ! {yours, Conn},
            Given;
        Error ->
            exit(Heir, kill),
            Error
    end.

impatient(Name, Node) ->
    Id = make_ref(),
    try gen_server:call({sockpool, Node}, {checkout, Id, Name, infinity}, rand:uniform(3) - 1) of
        {ok, Lease} -> sockpool:checkin(Lease);
        Error -> Error
    catch
        exit:{timeout, _} -> gen_server:cast({sockpool, Node}, {cancel, Id});
        exit:{{nodedown, _}, _} -> ok
    end.

allowed(ok) -> true;
allowed({ok, _}) -> true;
allowed({error, {nodedown, _}}) -> true;
allowed({error, {unavailable, _}}) -> true;
allowed({error, {tls, _}}) -> true;
allowed({error, Reason}) ->
    lists:member(Reason, [timeout, full, closed, draining, not_found, econnreset, epipe, not_owner]);
allowed(_) -> false.
