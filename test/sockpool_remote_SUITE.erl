%%% Pools that another Erlang node serves: the API over two and three real nodes, clients and nodes that
%%% die, a server that crashes, and whatever one can send to it. After each case the server must hold
%%% nothing any more, and the counts of its pool must be exact.
-module(sockpool_remote_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([greet/1]).
-export([every_function/1, same_results_as_here/1, own_node_is_the_local_path/1, default_times/1,
         large_data/1, pools_by_call/1, funs_in_options/1]).
-export([waiters_of_two_nodes_are_served_in_order/1, not_owner/1, give_away_to_another_node/1,
         give_away_to_the_dead/1, call_behind_a_checkin/1]).
-export([client_killed_while_waiting/1, client_killed_with_untouched_lease/1,
         client_killed_with_used_lease/1, client_killed_while_receiving/1,
         client_killed_in_a_request/1, client_vm_killed/1, connection_lost/1,
         random_kills/1]).
-export([server_crashes/1, session_crashes/1, lease_that_its_pool_ended/1]).
-export([grants_meet_cancels/1, grants_meet_timeouts/1, request_is_cancelled/1, silent_server/1,
         silent_server_in_recv/1]).
-export([bad_requests/1, hostile_messages/1, node_down/1, node_without_sockpool/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1,
                             assert_no_messages/0]).
-import(sockpool_cluster, [client/1, run/2, begin_run/2, result/1]).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [every_function, same_results_as_here, own_node_is_the_local_path, default_times, large_data,
     pools_by_call, funs_in_options, waiters_of_two_nodes_are_served_in_order, not_owner,
     give_away_to_another_node, give_away_to_the_dead, call_behind_a_checkin,
     client_killed_while_waiting,
     client_killed_with_untouched_lease, client_killed_with_used_lease,
     client_killed_while_receiving, client_killed_in_a_request, client_vm_killed, connection_lost,
     random_kills,
     server_crashes, session_crashes, lease_that_its_pool_ended, grants_meet_cancels,
     grants_meet_timeouts, request_is_cancelled, silent_server, silent_server_in_recv, bad_requests, hostile_messages,
     node_down, node_without_sockpool].

init_per_suite(Config) ->
    ok = sockpool_cluster:be_a_node(),
    {ok, _} = application:ensure_all_started(sockpool),
    [{serving, sockpool_cluster:start_peer()}, {other, sockpool_cluster:start_plain_peer()} | Config].

end_per_suite(Config) ->
    sockpool_cluster:stop_peer(?config(serving, Config)),
    sockpool_cluster:stop_peer(?config(other, Config)),
    application:stop(sockpool).

init_per_testcase(Case, Config) ->
    #{node := Node} = ?config(serving, Config),
    #{node := Other} = ?config(other, Config),
    [{pool, {Case, Node}}, {node, Node}, {other_node, Other},
     {server, sockpool_test_server:start()} | Config].

end_per_testcase(_Case, Config) ->
    Node = ?config(node, Config),
    ok = wait_until(fun() -> sockpool_cluster:holds_nothing(Node) end),
    {ok, Names} = sockpool:which_pools(Node),
    lists:foreach(fun(Name) -> ok = sockpool:stop_pool({Name, Node}) end, Names),
    lists:foreach(fun sockpool:stop_pool/1, sockpool:which_pools()).

%%% The API.

every_function(Config) ->
    Pool = {Name, Node} = started(Config, #{packet => line}),
    ?assertEqual({ok, [Name]}, sockpool:which_pools(Node)),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:send(Conn, ["one", $\n]),
    ok = sockpool:send(Conn, <<"two\n">>, 1000),
    ?assertEqual({ok, <<"one\n">>}, sockpool:recv(Conn, 0)),
    ?assertEqual({ok, <<"two\n">>}, sockpool:recv(Conn, 0, 1000)),
    Port = sockpool_test_server:port(?config(server, Config)),
    ?assertEqual({ok, {{127, 0, 0, 1}, Port}}, sockpool:peername(Conn)),
    {ok, {{127, 0, 0, 1}, OwnPort}} = sockpool:sockname(Conn),
    ?assertNotEqual(Port, OwnPort),
    {ok, Info} = sockpool:info(Conn),
    ?assertMatch(#{pool := Name, packet := line, peername := {{127, 0, 0, 1}, Port}}, Info),
    ok = sockpool:setopts(Conn, [{packet, raw}]),
    ok = sockpool:send(Conn, "ab"),
    ?assertEqual({ok, <<"a">>}, sockpool:recv(Conn, 1)),
    ?assertEqual({ok, <<"b">>}, sockpool:recv(Conn, 1)),
    ok = sockpool:checkin(Conn),
    {ok, Next} = sockpool:checkout(Pool, 0),
    ok = sockpool:discard(Next),
    ?assertEqual({ok, <<"x\n">>}, sockpool:request(Pool, "x\n", packet, 5000)),
    ?assertEqual(<<"y\n">>, sockpool:transaction(Pool, fun echo/1)),
    ?assertEqual(<<"y\n">>, sockpool:transaction(Pool, fun echo/1, 1000)),
    ?assertEqual({ok, <<"y\n">>}, sockpool:execute(Pool, fun echo/1)),
    ?assertEqual({ok, <<"y\n">>}, sockpool:execute(Pool, fun echo/1, 1000)),
    ?assertError(reason_of_the_fun, sockpool:transaction(Pool, fun(_) -> error(reason_of_the_fun) end)),
    %% Two were discarded: that of discard/1 and that of the fun which raised.
    #{checkouts := 8, checkins := 8, closed := 2, abandoned := 0} = Stats = settled(Pool),
    ?assertEqual({ok, [Stats]}, sockpool:node_stats(Node)),
    ok = sockpool:stop_pool(Pool),
    ?assertEqual({error, not_found}, sockpool:stats(Pool)),
    assert_no_messages().

echo(Conn) ->
    ok = sockpool:send(Conn, "y\n"),
    {ok, Line} = sockpool:recv(Conn, 0),
    Line.

same_results_as_here(Config) ->
    Opts = #{size => 1, max_overflow => 0, packet => 1, recv_limit => 100},
    Remote = {Name, Node} = started(Config, Opts),
    {ok, _} = sockpool:start_pool(Name, maps:merge(target(Config), Opts)),
    _ = settled(Name),
    Errors = [{error, timeout}, {error, full}, {error, closed}, {error, not_found},
              {error, {bad_argument, timeout, -1}}, {error, {bad_argument, timeout, soon}},
              {error, {bad_argument, length, -1}}, {error, {bad_argument, data, [300]}},
              {error, {bad_argument, pid, nobody}}, {error, {bad_argument, opts, none}},
              {error, {bad_option, colour, red}}, {error, emsgsize}],
    Here = results(Name, no_such_pool),
    ?assertEqual(Here, results(Remote, {no_such_pool, Node})),
    ?assertEqual([], Errors -- Here).

%% Every error that a caller can bring about, in one list.
results(Pool, NoPool) ->
    {ok, Conn} = sockpool:checkout(Pool),
    Data = [300],
    OnConn = [sockpool:checkout(Pool, 0), sockpool:checkout(Pool, 20),
              sockpool:request(Pool, "x", packet, 0), sockpool:request(Pool, "x", packet, 20),
              sockpool:checkout(Pool, -1), sockpool:checkout(NoPool), sockpool:checkout(NoPool, 0),
              sockpool:request(NoPool, "x", 0, 10), sockpool:stats(NoPool), sockpool:stop_pool(NoPool),
              sockpool:execute(NoPool, fun(_) -> ok end),
              catch_error(fun() -> sockpool:transaction(NoPool, fun(_) -> ok end) end),
              sockpool:request(Pool, Data, packet, 10), sockpool:request(Pool, "x", -1, 10),
              sockpool:request(Pool, "x", 0, soon),
              sockpool:send(Conn, Data), sockpool:send(Conn, "x", soon),
              sockpool:recv(Conn, -1), sockpool:recv(Conn, 0, -1), sockpool:recv(Conn, 7, 0),
              sockpool:give_away(Conn, nobody), sockpool:give_away(Conn, dead()),
              sockpool:setopts(Conn, none), sockpool:setopts(Conn, [{colour, red}]),
              sockpool:setopts(Conn, [{nodelay, true} | rest]), sockpool:setopts(Conn, []),
              sockpool:recv(Conn, 0, 20),
              sockpool:send(Conn, binary:copy(<<"x">>, 256)),
              sockpool:send(Conn, binary:copy(<<"x">>, 200)), sockpool:recv(Conn, 0, 1000),
              sockpool:checkin(Conn)],
    OnConn ++ [sockpool:checkin(Conn), sockpool:discard(Conn), sockpool:send(Conn, "x"),
               sockpool:recv(Conn, 0), sockpool:info(Conn), sockpool:peername(Conn),
               sockpool:sockname(Conn), sockpool:setopts(Conn, [{nodelay, true}]),
               sockpool:give_away(Conn, self())].

catch_error(Fun) ->
    try Fun() catch error:Reason -> {raised, Reason} end.

dead() ->
    {Pid, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Pid, _} -> Pid end.

%% The server of this node does not see anything of it.
own_node_is_the_local_path(Config) ->
    {Name, _} = ?config(pool, Config),
    Pool = {Name, node()},
    ok = sys:suspend(sockpool),
    try
        ok = sockpool:start_pool(Pool, target(Config)),
        ?assertMatch({error, {already_started, _}}, sockpool:start_pool(Pool, target(Config))),
        {ok, Conn} = sockpool:checkout(Pool),
        ok = sockpool:checkin(Conn),
        ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)),
        ?assertEqual({ok, 1}, sockpool:execute(Pool, fun(_) -> 1 end)),
        ?assertEqual({ok, [Name]}, sockpool:which_pools(node())),
        ?assertMatch({ok, #{checkouts := 3}}, sockpool:stats(Pool)),
        ?assertMatch({ok, [#{name := Name}]}, sockpool:node_stats(node())),
        ok = sockpool:stop_pool(Pool)
    after
        ok = sys:resume(sockpool)
    end.

%% Those of the pool, which the client does not know.
default_times(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, checkout_timeout => 0}),
    {ok, Conn} = sockpool:checkout(Pool, 5000),
    ?assertEqual({error, full}, sockpool:checkout(Pool)),
    ?assertEqual({error, full}, sockpool:execute(Pool, fun(_) -> ok end)),
    ok = sockpool:checkin(Conn).

large_data(Config) ->
    Pool = started(Config, #{}),
    Data = rand:bytes(8 * 1024 * 1024),
    ?assert({ok, Data} =:= sockpool:request(Pool, Data, byte_size(Data), 60000)),
    %% Through a lease the echo must be read while the rest is sent: half of it at a time fits.
    Part = binary:part(Data, 0, 100000),
    Received = sockpool:transaction(Pool, fun(Conn) ->
                                                  ok = sockpool:send(Conn, [Part]),
                                                  sockpool:recv(Conn, byte_size(Part))
                                          end),
    ?assert({ok, Part} =:= Received),
    #{closed := 0} = settled(Pool).

pools_by_call(Config) ->
    {Name, Node} = Pool = ?config(pool, Config),
    Target = target(Config),
    ?assertEqual({error, {bad_option, size, lots}},
                 sockpool:start_pool(Pool, Target#{size => lots})),
    ?assertEqual({error, {bad_option, opts, nothing}}, sockpool:start_pool(Pool, nothing)),
    ?assertEqual({ok, []}, sockpool:which_pools(Node)),
    ok = sockpool:start_pool(Pool, Target),
    {error, {already_started, Pid}} = sockpool:start_pool(Pool, Target),
    ?assertEqual(Node, node(Pid)),
    ?assertEqual({ok, [Name]}, sockpool:which_pools(Node)),
    Job = start(fun() ->
                        {ok, _} = sockpool:checkout(Pool),
                        receive done -> ok end
                end),
    ok = wait_until(fun() -> stat(Pool, leased) =:= 1 end),
    ok = sockpool:stop_pool(Pool),
    element(1, Job) ! done,
    ok = await(Job),
    ?assertEqual({error, not_found}, sockpool:stop_pool(Pool)).

funs_in_options(Config) ->
    Pool = ?config(pool, Config),
    Opts = (target(Config))#{packet => line},
    Bad = [fun(_) -> ok end, fun unexported/1, fun ?MODULE:unexported/1, fun no_such_module:init/1],
    [?assertEqual({error, {bad_option, init, Fun}}, sockpool:start_pool(Pool, Opts#{init => Fun}))
     || Fun <- Bad],
    Tls = Opts#{transport => tls, tls => #{certfile => "c.pem", password => fun() -> "x" end}},
    ?assertMatch({error, {bad_option, {tls, password}, _}}, sockpool:start_pool(Pool, Tls)),
    %% Runs on the serving node, with a connection of that node.
    true = register(greeted, self()),
    ok = sockpool:start_pool(Pool, Opts#{init => fun ?MODULE:greet/1, size => 1}),
    _ = settled(Pool),
    Node = ?config(node, Config),
    receive {greeted_on, Where} -> ?assertEqual(Node, Where) end,
    Text = lists:flatten(sockpool:format_error({bad_option, init, hd(Bad)})),
    ?assertNotEqual(nomatch, string:find(Text, "another node")).

unexported(_Conn) -> ok.

greet(Conn) ->
    ok = sockpool:send(Conn, "hello\n"),
    {ok, <<"hello\n">>} = sockpool:recv(Conn, 0),
    [{greeted, Tester} ! {greeted_on, node()} || Tester <- nodes(),
                                                 erpc:call(Tester, erlang, whereis, [greeted])
                                                     =/= undefined],
    ok.

%%% Leases between nodes.

waiters_of_two_nodes_are_served_in_order(Config) ->
    %% The backend has the only connection, so it sees the one true order.
    Tester = self(),
    Backend = sockpool_test_server:start({reply, fun(Data) -> Tester ! {served, Data}, Data end}),
    Pool = started([{server, Backend} | Config], #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    %% Those of the serving node wait in the same queue without its server.
    Nodes = [node(), ?config(other_node, Config), ?config(node, Config)],
    Waiter = fun(N) ->
                     Client = client(lists:nth(1 + N rem 3, Nodes)),
                     Ref = begin_run(Client, fun() -> wait_and_use(Pool, <<N>>) end),
                     ok = wait_until(fun() -> stat(Pool, waiting) =:= N end),
                     {Client, Ref}
             end,
    Waiters = [Waiter(N) || N <- lists:seq(1, 30)],
    ok = sockpool:checkin(Conn),
    ?assertEqual(lists:seq(1, 30), [receive {served, <<N>>} -> N end || _ <- Waiters]),
    [?assertEqual(ok, result(Ref)) || {_, Ref} <- Waiters],
    [ok = sockpool_cluster:kill(Client) || {Client, _} <- Waiters],
    #{checkouts := 31, checkins := 31, abandoned := 0, timeouts := 0} = settled(Pool),
    ok.

wait_and_use(Pool, Data) ->
    {ok, Conn} = sockpool:checkout(Pool, infinity),
    ok = sockpool:send(Conn, Data),
    {ok, Data} = sockpool:recv(Conn, 1),
    sockpool:checkin(Conn).

not_owner(Config) ->
    Pool = started(Config, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    Calls = [fun() -> sockpool:send(Conn, "x") end, fun() -> sockpool:recv(Conn, 0) end,
             fun() -> sockpool:checkin(Conn) end, fun() -> sockpool:discard(Conn) end,
             fun() -> sockpool:info(Conn) end, fun() -> sockpool:peername(Conn) end,
             fun() -> sockpool:sockname(Conn) end, fun() -> sockpool:setopts(Conn, []) end,
             fun() -> sockpool:give_away(Conn, self()) end],
    Clients = [client(Node) || Node <- [node(), ?config(node, Config), ?config(other_node, Config)]],
    [?assertEqual({error, not_owner}, run(Client, Call)) || Client <- Clients, Call <- Calls],
    [ok = sockpool_cluster:kill(Client) || Client <- Clients],
    %% None of them did anything to it.
    ok = sockpool:send(Conn, "y"),
    ?assertEqual({ok, <<"y">>}, sockpool:recv(Conn, 1)),
    ok = sockpool:checkin(Conn),
    #{checkouts := 1, closed := 0, abandoned := 0} = settled(Pool),
    ok.

give_away_to_another_node(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:send(Conn, "x"),
    Heirs = [client(Node) || Node <- [?config(other_node, Config), ?config(node, Config), node()]],
    ok = give_on(Conn, self(), Heirs),
    Last = lists:last(Heirs),
    ?assertEqual({ok, <<"x">>}, run(Last, fun() -> sockpool:recv(Conn, 1) end)),
    %% Who had it before may die without harm.
    [ok = sockpool_cluster:kill(Heir) || Heir <- Heirs, Heir =/= Last],
    ?assertEqual(ok, run(Last, fun() -> sockpool:checkin(Conn) end)),
    ?assertEqual({error, closed}, sockpool:checkin(Conn)),
    #{checkins := 1, closed := 0, abandoned := 0} = settled(Pool),
    %% Who has it now may not.
    {ok, Again} = sockpool:checkout(Pool),
    ok = sockpool:give_away(Again, Last),
    ok = sockpool_cluster:kill(Last),
    #{checkins := 1, closed := 0, abandoned := 1} = settled(Pool),
    ok.

give_on(_Conn, _Owner, []) ->
    ok;
give_on(Conn, Owner, [Heir | Heirs]) ->
    Give = fun() -> sockpool:give_away(Conn, Heir) end,
    ok = case Owner =:= self() of
             true -> Give();
             false -> run(Owner, Give)
         end,
    ?assertEqual({error, not_owner}, sockpool:info(Conn)),
    give_on(Conn, Heir, Heirs).

give_away_to_the_dead(Config) ->
    Pool = started(Config, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    Dead = [client(Node) || Node <- [node(), ?config(node, Config), ?config(other_node, Config)]],
    [ok = sockpool_cluster:kill(Client) || Client <- Dead],
    [Here, There, Elsewhere] = Dead,
    ?assertEqual({error, noproc}, sockpool:give_away(Conn, Here)),
    ?assertEqual({error, noproc}, sockpool:give_away(Conn, There)),
    {ok, _} = sockpool:info(Conn),
    ok = sockpool:give_away(Conn, Elsewhere),
    #{abandoned := 1, closed := 0} = settled(Pool),
    ?assertEqual({error, closed}, sockpool:info(Conn)).

%% It does not wait for the checkin's answer, and must not be lost with the process that gives it.
call_behind_a_checkin(Config) ->
    Pool = {_, Node} = started(Config, #{size => 1, max_overflow => 0}),
    [begin
         {ok, Conn} = sockpool:checkout(Pool),
         Calls = [gen_server:send_request({sockpool, Node}, Request)
                  || Request <- [{info, Conn}, {End, Conn}, {info, Conn}, {End, Conn}]],
         ?assertMatch([{reply, {ok, #{}}}, {reply, ok}, {reply, {error, closed}}, {reply, {error, closed}}],
                      [gen_server:receive_response(Call, 30000) || Call <- Calls])
     end || End <- lists:append(lists:duplicate(50, [checkin, discard]))],
    #{checkins := 100, abandoned := 0} = settled(Pool),
    ok.

%%% Clients that die.

client_killed_while_waiting(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    Client = client(?config(other_node, Config)),
    _ = begin_run(Client, fun() -> sockpool:checkout(Pool, infinity) end),
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    ok = sockpool_cluster:kill(Client),
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 0 end),
    ok = sockpool:checkin(Conn),
    #{checkouts := 1, checkins := 1, closed := 0} = settled(Pool),
    ok.

client_killed_with_untouched_lease(Config) ->
    #{closed := 0, abandoned := 1} = killed_after(Config, fun(_Conn) -> ok end),
    ok.

client_killed_with_used_lease(Config) ->
    #{closed := 1, abandoned := 1} = killed_after(Config, fun(Conn) -> sockpool:send(Conn, "x") end),
    ok.

%% The pool's stats after a client took a connection, did something with it, and was killed.
killed_after(Config, Use) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    Client = client(?config(other_node, Config)),
    ok = run(Client, fun() ->
                             {ok, Conn} = sockpool:checkout(Pool),
                             Use(Conn)
                     end),
    ?assertEqual(1, stat(Pool, leased)),
    ok = sockpool_cluster:kill(Client),
    settled(Pool).

client_killed_while_receiving(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    Client = client(?config(other_node, Config)),
    Tester = self(),
    _ = begin_run(Client, fun() ->
                                  {ok, Conn} = sockpool:checkout(Pool),
                                  Tester ! checked_out,
                                  sockpool:recv(Conn, 1, infinity)
                          end),
    receive checked_out -> ok end,
    {ok, [Session]} = waiting_sessions(Config, 1),
    ok = sockpool_cluster:kill(Client),
    #{closed := 1, abandoned := 1} = settled(Pool),
    ?assertNot(erpc:call(node(Session), erlang, is_process_alive, [Session])).

client_killed_in_a_request(Config) ->
    Server = sockpool_test_server:start(silent),
    Pool = started([{server, Server} | Config], #{size => 1, max_overflow => 0}),
    Client = client(?config(other_node, Config)),
    _ = begin_run(Client, fun() -> sockpool:request(Pool, "x", 1, infinity) end),
    ok = wait_until(fun() -> stat(Pool, leased) =:= 1 end),
    {ok, [_]} = waiting_sessions(Config, 1),
    ok = sockpool_cluster:kill(Client),
    #{closed := 1, abandoned := 1} = settled(Pool),
    ok.

%% Sessions that wait for the server's bytes: all of them, once there are so many.
waiting_sessions(Config, Count) ->
    Node = ?config(node, Config),
    Waiting = fun() ->
                      [Pid || Pid <- sessions(Node),
                              erpc:call(Node, erlang, process_info, [Pid, current_function])
                                  =:= {current_function, {sockpool_wait, await, 2}}]
              end,
    ok = wait_until(fun() -> length(Waiting()) =:= Count orelse Waiting() end),
    {ok, Waiting()}.

sessions(Node) ->
    Server = erpc:call(Node, erlang, whereis, [sockpool]),
    {links, Links} = erpc:call(Node, erlang, process_info, [Server, links]),
    Supervisor = erpc:call(Node, erlang, whereis, [sockpool_sup]),
    Links -- [Supervisor].

client_vm_killed(Config) ->
    Pool = started(Config, #{size => 3, max_overflow => 0}),
    #{node := Doomed} = Peer = sockpool_cluster:start_plain_peer(),
    Checkout = fun() -> {ok, Conn} = sockpool:checkout(Pool, infinity), Conn end,
    [Untouched, Used, Receiving | Waiting] = [client(Doomed) || _ <- lists:seq(1, 20)],
    _ = run(Untouched, Checkout),
    ok = run(Used, fun() -> sockpool:send(Checkout(), "x") end),
    _ = begin_run(Receiving, fun() -> sockpool:recv(Checkout(), 1, infinity) end),
    {ok, [_]} = waiting_sessions(Config, 1),
    Refs = [begin_run(Client, Checkout) || Client <- Waiting],
    ok = wait_until(fun() -> stat(Pool, waiting) =:= length(Waiting) end),
    %% One that lives waits behind them.
    Survivor = start(fun() -> {ok, Conn} = sockpool:checkout(Pool, infinity), sockpool:checkin(Conn) end),
    ok = wait_until(fun() -> stat(Pool, waiting) =:= length(Waiting) + 1 end),
    ok = sockpool_cluster:kill_vm(Peer),
    [?assertEqual({down, noconnection}, result(Ref)) || Ref <- Refs],
    ?assertEqual(ok, await(Survivor)),
    %% The untouched connection is as good as new, the two others were replaced.
    #{total := 3, idle := 3, created := 5, closed := 2, timeouts := 0} = settled(Pool),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)).

%% Both nodes live on.
connection_lost(Config) ->
    Pool = {_, Node} = started(Config, #{size => 2, max_overflow => 0}),
    {ok, Untouched} = sockpool:checkout(Pool),
    {ok, Used} = sockpool:checkout(Pool),
    ok = sockpool:send(Used, "x"),
    Other = client(?config(other_node, Config)),
    OfOther = begin_run(Other, fun() -> wait_and_use(Pool, <<"y">>) end),
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    Waiting = start(fun() -> sockpool:checkout(Pool, infinity) end),
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 2 end),
    true = erlang:disconnect_node(Node),
    ?assertEqual({error, {nodedown, Node}}, await(Waiting)),
    ?assertEqual(ok, result(OfOther)),
    [?assertEqual({error, closed}, sockpool:checkin(Conn)) || Conn <- [Untouched, Used]],
    #{closed := 1, abandoned := 2, checkouts := 3, timeouts := 0} = settled(Pool),
    ok = sockpool_cluster:kill(Other),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)).

random_kills(Config) ->
    Pool = started(Config, #{size => 4, max_overflow => 2, overflow_ttl => 0, backoff => {1, 10}}),
    Nodes = [node(), ?config(other_node, Config)],
    Clients = [spawn(lists:nth(1 + N rem 2, Nodes), fun() -> work(Pool) end)
               || N <- lists:seq(1, 600)],
    lists:foreach(fun(Client) ->
                          _ = rand:uniform(3) =:= 1 andalso erlang:yield(),
                          {ok, _} = sockpool:stats(Pool),
                          ok = sockpool_cluster:kill(Client)
                  end, Clients),
    #{total := 4, leased := 0, waiting := 0, checkouts := Checkouts} = settled(Pool),
    ?assert(Checkouts > 100),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)).

work(Pool) ->
    _ = case rand:uniform(4) of
            1 -> sockpool:request(Pool, "abc", 3, infinity);
            2 -> sockpool:execute(Pool, fun(Conn) -> sockpool:send(Conn, "x") end, infinity);
            3 -> sockpool:execute(Pool, fun(_) -> ok end, rand:uniform(20));
            4 -> sockpool:execute(Pool, fun(Conn) -> sockpool:recv(Conn, 1, rand:uniform(5)) end)
        end,
    work(Pool).

%%% The serving side fails.

server_crashes(Config) ->
    Pool = started(Config, #{size => 2, max_overflow => 0}),
    Node = ?config(node, Config),
    {ok, Untouched} = sockpool:checkout(Pool),
    {ok, Used} = sockpool:checkout(Pool),
    ok = sockpool:send(Used, "x"),
    Waiting = start(fun() -> sockpool:checkout(Pool, infinity) end),
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    ok = sockpool_cluster:restart_server(Node),
    ?assertEqual({error, closed}, await(Waiting)),
    [?assertEqual({error, closed}, Result)
     || Conn <- [Untouched, Used],
        Result <- [sockpool:send(Conn, "y"), sockpool:recv(Conn, 1), sockpool:info(Conn),
                   sockpool:give_away(Conn, self()), sockpool:discard(Conn), sockpool:checkin(Conn)]],
    #{closed := 1, abandoned := 2, created := 3} = settled(Pool),
    %% The numbers begin anew, the leases of before stay closed.
    {ok, Conn} = sockpool:checkout(Pool),
    ?assertEqual({error, closed}, sockpool:checkin(Untouched)),
    ok = sockpool:send(Conn, "z"),
    ?assertEqual({ok, <<"z">>}, sockpool:recv(Conn, 1)),
    ok = sockpool:checkin(Conn).

session_crashes(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    Server = erpc:call(?config(node, Config), erlang, whereis, [sockpool]),
    Receiving = start(fun() ->
                              {ok, Conn} = sockpool:checkout(Pool),
                              Result = sockpool:recv(Conn, 1, infinity),
                              {Result, sockpool:checkin(Conn)}
                      end),
    {ok, [Session]} = waiting_sessions(Config, 1),
    true = exit(Session, kill),
    ?assertEqual({{error, closed}, {error, closed}}, await(Receiving)),
    #{closed := 1, abandoned := 1} = settled(Pool),
    ?assertEqual(Server, erpc:call(?config(node, Config), erlang, whereis, [sockpool])).

%% It leaves nothing behind, though its client lives and never gives it back.
lease_that_its_pool_ended(Config) ->
    Pool = started(Config, #{max_hold => 1}),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = wait_until(fun() -> sockpool:send(Conn, "x") =:= {error, closed} end),
    ok = wait_until(fun() -> sockpool_cluster:holds_nothing(?config(node, Config)) end),
    ?assertEqual({error, closed}, sockpool:checkin(Conn)),
    %% A server that closes the connection does not end the lease.
    ok = sockpool:stop_pool(Pool),
    Closing = sockpool_test_server:start(close),
    ok = sockpool:start_pool(Pool, (sockpool_test_server:target(Closing))#{validate => never}),
    {ok, Closed} = sockpool:checkout(Pool),
    ?assertEqual({error, closed}, sockpool:recv(Closed, 1)),
    ?assertEqual(ok, sockpool:checkin(Closed)).

%%% Grants that meet the end of a wait.

%% A caller whose limit is shorter than the server's time: what sockpool_remote does, only sooner.
grants_meet_cancels(Config) ->
    Pool = started(Config, #{size => 3, max_overflow => 0}),
    Server = {sockpool, ?config(node, Config)},
    {Results, Stats} = race(Config, fun() -> impatient(Server, Pool, rand:uniform(4) - 1) end),
    assert_both(Results),
    #{total := 3, leased := 0, closed := 0} = Stats,
    ok.

impatient(Server, {Name, _}, Limit) ->
    Id = make_ref(),
    try gen_server:call(Server, {checkout, Id, Name, infinity}, Limit) of
        {ok, Lease} ->
            ok = sockpool:checkin(Lease),
            granted
    catch
        exit:{timeout, _} ->
            ok = gen_server:cast(Server, {cancel, Id}),
            late
    end.

grants_meet_timeouts(Config) ->
    Pool = started(Config, #{size => 3, max_overflow => 0}),
    {Results, Stats} = race(Config, fun() -> punctual(Pool, rand:uniform(4) - 1) end),
    assert_both(Results),
    #{total := 3, leased := 0, closed := 0, abandoned := 0, checkouts := Checkouts,
      checkins := Checkouts} = Stats,
    ?assertEqual(Checkouts, length([granted || granted <- Results])).

punctual(Pool, Timeout) ->
    case sockpool:checkout(Pool, Timeout) of
        {ok, Conn} ->
            ok = sockpool:checkin(Conn),
            granted;
        {error, Reason} when Reason =:= timeout; Reason =:= full ->
            late
    end.

%% 40 processes on two nodes, 100 times each. All of them live until the pool has come to rest: what is
%% taken back is taken back from the living.
race(Config, Fun) ->
    Nodes = [node(), ?config(other_node, Config)],
    Clients = [client(Node) || Node <- Nodes, _ <- lists:seq(1, 20)],
    Refs = [begin_run(Client, fun() -> [Fun() || _ <- lists:seq(1, 100)] end) || Client <- Clients],
    Results = lists:append([result(Ref) || Ref <- Refs]),
    Stats = settled(?config(pool, Config)),
    [ok = sockpool_cluster:kill(Client) || Client <- Clients],
    {Results, Stats}.

assert_both(Results) ->
    ?assertEqual([granted, late], lists:usort(Results)),
    ?assertEqual(4000, length(Results)).

request_is_cancelled(Config) ->
    Silent = sockpool_test_server:start(silent),
    {Name, Node} = Pool = started([{server, Silent} | Config], #{size => 1, max_overflow => 0}),
    Request = fun() ->
                      Id = make_ref(),
                      ?assertExit({timeout, _},
                                  gen_server:call({sockpool, Node},
                                                  {request, Id, Name, <<"x">>, 1, infinity}, 0)),
                      Id
              end,
    [UnderWay, Waiting] = [Request(), Request()],
    ok = wait_until(fun() -> {stat(Pool, leased), stat(Pool, waiting)} =:= {1, 1} end),
    ok = gen_server:cast({sockpool, Node}, {cancel, Waiting}),
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 0 end),
    ?assertEqual(1, stat(Pool, leased)),
    ok = gen_server:cast({sockpool, Node}, {cancel, UnderWay}),
    #{closed := 1, abandoned := 1, total := 1} = settled(Pool),
    ok.

%% What it does once it runs again must not leave a connection with nobody.
silent_server(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    Server = {sockpool, ?config(node, Config)},
    ok = sys:suspend(Server),
    Clients = [client(node()), client(node())],
    Late = [begin_run(Client, fun() -> sockpool:checkout(Pool, 0) end) || Client <- Clients],
    ?assertEqual([{error, timeout}, {error, timeout}], [result(Ref) || Ref <- Late]),
    ok = sys:resume(Server),
    #{leased := 0, waiting := 0, closed := 0} = settled(Pool),
    [ok = sockpool_cluster:kill(Client) || Client <- Clients],
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)).

%% The bytes may have gone to nobody, so the connection must not be used any more.
silent_server_in_recv(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    Server = {sockpool, ?config(node, Config)},
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:send(Conn, "ab"),
    ok = sys:suspend(Server),
    ?assertEqual({error, timeout}, sockpool:recv(Conn, 1, 0)),
    ok = sys:resume(Server),
    ?assertEqual({error, closed}, sockpool:recv(Conn, 1)),
    ?assertEqual({error, closed}, sockpool:checkin(Conn)),
    #{closed := 1, abandoned := 1} = settled(Pool),
    assert_no_messages().

%%% What is none of the protocol.

bad_requests(Config) ->
    Pool = {Name, Node} = started(Config, #{}),
    Server = {sockpool, Node},
    Before = erpc:call(Node, erlang, whereis, [sockpool]),
    {ok, {Tag, Node, Incarnation, Number} = Conn} = sockpool:checkout(Pool),
    Unknown = [hello, 1, [], #{}, {}, {checkout}, {checkout, make_ref(), Name},
               {checkout, no_id, Name, 0}, {checkout, make_ref(), Pool, 0},
               {checkout, make_ref(), "name", 0}, {request, make_ref(), Pool, <<>>, 0, 0},
               {request, 1, Name, <<>>, 0, 0}, {stats, Pool}, {stop_pool, Pool}, {stop_pool, []},
               {checkin, Name}, {checkin, {Tag, Node}}, {close, Conn}, {send, Conn}, {send, Conn, "x"},
               {send, Conn, "x", 0, 0}, {close, Conn, "x", 0}, {give_away, Conn, nobody}],
    [?assertEqual({error, {bad_request, Request}}, gen_server:call(Server, Request))
     || Request <- Unknown],
    Others = [{{checkout, make_ref(), Name, soon}, {bad_argument, timeout, soon}},
              {{request, make_ref(), Name, [x], 0, 0}, {bad_argument, data, [x]}},
              {{request, make_ref(), Name, <<>>, -1, 0}, {bad_argument, length, -1}},
              {{send, Conn, [x | y], 0}, {bad_argument, data, [x | y]}},
              {{recv, Conn, many, 0}, {bad_argument, length, many}},
              {{recv, Conn, 0, []}, {bad_argument, timeout, []}},
              {{setopts, Conn, [a | b]}, {bad_argument, opts, [a | b]}},
              {{start_pool, Pool, #{}}, {bad_option, name, Pool}},
              {{start_pool, Name, [a | b]}, {bad_option, opts, [a | b]}},
              {{checkin, {Tag, Node, make_ref(), Number}}, closed},
              {{checkin, {Tag, Node, Incarnation, Number + 1}}, closed},
              {{checkin, {Tag, Node, Incarnation, [Number]}}, closed},
              {{checkin, {Tag, node(), [Incarnation | 1], Number}}, closed}],
    [?assertEqual({error, Reason}, gen_server:call(Server, Request)) || {Request, Reason} <- Others],
    ?assertEqual(Before, erpc:call(Node, erlang, whereis, [sockpool])),
    ok = sockpool:checkin(Conn),
    ?assertNotEqual("", lists:flatten(sockpool:format_error({bad_request, hello}))).

hostile_messages(Config) ->
    Pool = {Name, Node} = started(Config, #{}),
    Before = erpc:call(Node, erlang, whereis, [sockpool]),
    Dead = dead(),
    Deep = lists:foldl(fun(_, Term) -> {Term} end, [], lists:seq(1, 100000)),
    Froms = [nobody, {nobody, x}, {self(), [alias | none]}, {self(), [[alias | none] | x]}, {Dead, x},
             {self()}, {self(), x, y}, [self() | x], {make_ref(), x}, {Deep, Deep}],
    Requests = [hello, which_pools, {stats, Name}, {checkout, make_ref(), Name, 0},
                {request, make_ref(), Name, <<"x">>, 1, 1000}, Deep],
    Messages = [hello, Deep, {'$gen_call', hello}, {'$gen_cast', hello}, {'$gen_cast', {cancel, Deep}},
                {'$gen_cast', {cancel, {'$sockpool_lease', a, b, c}}}, {'$gen_call', a, b, c},
                {'DOWN', make_ref(), process, self(), x}, {'EXIT', self(), x}, {'EXIT', Deep, x},
                {system, nobody, get_state}, {system, {x, y}, suspend}, {system, a},
                {'$sockpool_over', self()}, {'$sockpool_over', x}, binary:copy(<<"x">>, 1000000)]
        ++ [{'$gen_call', From, Request} || From <- Froms, Request <- Requests],
    [{sockpool, Node} ! Message || Message <- Messages],
    ?assertEqual({ok, [Name]}, sockpool:which_pools(Node)),
    ?assertEqual(Before, erpc:call(Node, erlang, whereis, [sockpool])),
    %% What was asked for in the name of this process came here, and its leases with it.
    _ = settled_without_leases(Pool),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)).

%% The leases that were granted to this process are given back.
settled_without_leases(Pool) ->
    wait_until(fun() ->
                       receive
                           {_Tag, {ok, {'$sockpool_lease', _, _, _} = Lease}} ->
                               _ = sockpool:checkin(Lease), ok
                       after 0 -> ok
                       end,
                       case sockpool:stats(Pool) of
                           {ok, #{leased := 0, waiting := 0}} -> true;
                           Other -> Other
                       end
               end),
    settled(Pool).

node_down(Config) ->
    Nowhere = {pool, 'nobody@no.such.host.invalid'},
    Down = {error, {nodedown, 'nobody@no.such.host.invalid'}},
    [?assertEqual(Down, Result)
     || Result <- [sockpool:checkout(Nowhere), sockpool:request(Nowhere, "x", 1, 1000),
                   sockpool:stats(Nowhere), sockpool:which_pools(element(2, Nowhere)),
                   sockpool:node_stats(element(2, Nowhere)), sockpool:stop_pool(Nowhere),
                   sockpool:start_pool(Nowhere, target(Config)),
                   sockpool:execute(Nowhere, fun(_) -> ok end)]],
    ?assertError({checkout, {nodedown, _}}, sockpool:transaction(Nowhere, fun(_) -> ok end)),
    ?assertNotEqual("", lists:flatten(sockpool:format_error(element(2, Down)))),
    %% One that goes down while it is used.
    #{node := Node} = Peer = sockpool_cluster:start_peer(),
    Pool = {doomed, Node},
    ok = sockpool:start_pool(Pool, (target(Config))#{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    Waiting = start(fun() -> sockpool:checkout(Pool, infinity) end),
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    ok = sockpool_cluster:kill_vm(Peer),
    ?assertEqual({error, {nodedown, Node}}, await(Waiting)),
    ?assertEqual({error, {nodedown, Node}}, sockpool:recv(Conn, 1)),
    ?assertEqual({error, {nodedown, Node}}, sockpool:checkin(Conn)).

node_without_sockpool(Config) ->
    Node = ?config(other_node, Config),
    Pool = {pool, Node},
    [?assertEqual({error, not_found}, Result)
     || Result <- [sockpool:checkout(Pool), sockpool:stats(Pool), sockpool:which_pools(Node),
                   sockpool:stop_pool(Pool)]].

%%% Pools.

target(Config) -> sockpool_test_server:target(?config(server, Config)).

%% On the serving node, with all its connections up.
started(Config, Opts) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, maps:merge(target(Config), Opts)),
    _ = settled(Pool),
    Pool.
