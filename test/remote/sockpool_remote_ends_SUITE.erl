%%% Pools that another Erlang node serves, when something ends: clients and nodes that die, a server
%%% that crashes, and grants that meet the end of a wait. All leases come back, with exact counts.
-module(sockpool_remote_ends_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
-export([client_killed_while_waiting/1, client_killed_with_untouched_lease/1,
         client_killed_with_used_lease/1, client_killed_while_receiving/1,
         client_killed_in_a_request/1, client_vm_killed/1, connection_lost/1, random_kills/1]).
-export([server_crashes/1, session_crashes/1, lease_that_its_pool_ended/1]).
-export([grants_meet_cancels/1, grants_meet_timeouts/1, request_is_cancelled/1, silent_server/1,
         silent_server_in_recv/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1,
                             assert_no_messages/0]).
-import(sockpool_cluster, [client/1, run/2, begin_run/2, result/1]).
-import(sockpool_remote_kit, [started/2, wait_and_use/2, await_calls/2, suspend/1, resume/1]).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [{group, erlang}, {group, c}].

%% How the C node itself ends is in sockpool_c_node_pools_SUITE.
groups() -> [{erlang, cases() ++ [server_crashes, session_crashes]}, {c, cases()}].

%% For both kinds of serving nodes.
cases() ->
    [client_killed_while_waiting, client_killed_with_untouched_lease, client_killed_with_used_lease,
     client_killed_while_receiving, client_killed_in_a_request, client_vm_killed, connection_lost,
     random_kills, lease_that_its_pool_ended, grants_meet_cancels, grants_meet_timeouts,
     request_is_cancelled, silent_server, silent_server_in_recv].

init_per_suite(Config) -> sockpool_remote_kit:init_suite(Config).
end_per_suite(Config) -> sockpool_remote_kit:end_suite(Config).
init_per_group(Kind, Config) -> sockpool_remote_kit:init_group(Kind, Config).
end_per_group(Kind, Config) -> sockpool_remote_kit:end_group(Kind, Config).
init_per_testcase(Case, Config) -> sockpool_remote_kit:init_case(Case, Config).
end_per_testcase(_Case, Config) -> sockpool_remote_kit:end_case(Config).

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
    ok = at_work(Config, [Client]),
    ok = sockpool_cluster:kill(Client),
    #{closed := 1, abandoned := 1} = settled(Pool),
    ok.

client_killed_in_a_request(Config) ->
    Server = sockpool_test_server:start(silent),
    Pool = started([{server, Server} | Config], #{size => 1, max_overflow => 0}),
    Client = client(?config(other_node, Config)),
    _ = begin_run(Client, fun() -> sockpool:request(Pool, "x", 1, infinity) end),
    ok = wait_until(fun() -> stat(Pool, leased) =:= 1 end),
    ok = at_work(Config, [Client]),
    ok = sockpool_cluster:kill(Client),
    #{closed := 1, abandoned := 1} = settled(Pool),
    ok.

%% The server waits for bytes for these clients.
at_work(Config, Clients) ->
    ok = await_calls(Config, Clients),
    case ?config(kind, Config) of
        erlang -> {ok, _} = waiting_sessions(Config, length(Clients)), ok;
        c -> ok
    end.

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
    ok = wait_until(fun() -> stat(Pool, leased) =:= 3 end),
    ok = at_work(Config, [Receiving]),
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
    %% What the server takes from the first of this node may go to the second, of whom it hears next; that
    %% one comes back untouched.
    #{closed := 1, abandoned := Abandoned, checkouts := Checkouts, checkins := 1, timeouts := 0} = settled(Pool),
    ?assertEqual(Checkouts, 1 + Abandoned),
    ?assert(lists:member(Abandoned, [2, 3])),
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
    %% One more if the one who waited was granted one before it died as well.
    #{closed := 1, abandoned := Abandoned, created := 3} = settled(Pool),
    ?assert(lists:member(Abandoned, [2, 3])),
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
    ok = wait_until(fun() -> sockpool_remote_kit:holds_nothing(Config) end),
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
    %% The longest are for a server that is slow, as one under valgrind is, beside others.
    Limits = {0, 1, 2, 3, 100, 10000},
    {Results, Stats} = race(Config, fun() -> impatient(Server, Pool, element(rand:uniform(6), Limits)) end),
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
    UnderWay = Request(),
    ok = wait_until(fun() -> stat(Pool, leased) =:= 1 end),
    Waiting = Request(),
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    ok = gen_server:cast({sockpool, Node}, {cancel, Waiting}),
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 0 end),
    ?assertEqual(1, stat(Pool, leased)),
    ok = gen_server:cast({sockpool, Node}, {cancel, UnderWay}),
    #{closed := 1, abandoned := 1, total := 1} = settled(Pool),
    ok.

%% What it does once it runs again must not leave a connection with nobody.
silent_server(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    ok = suspend(Config),
    Clients = [client(node()), client(node())],
    Late = [begin_run(Client, fun() -> sockpool:checkout(Pool, 0) end) || Client <- Clients],
    ?assertEqual([{error, timeout}, {error, timeout}], [result(Ref) || Ref <- Late]),
    ok = resume(Config),
    #{leased := 0, waiting := 0, closed := 0} = settled(Pool),
    [ok = sockpool_cluster:kill(Client) || Client <- Clients],
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)).

%% The bytes may have gone to nobody, so the connection must not be used any more.
silent_server_in_recv(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:send(Conn, "ab"),
    ok = suspend(Config),
    ?assertEqual({error, timeout}, sockpool:recv(Conn, 1, 0)),
    ok = resume(Config),
    ?assertEqual({error, closed}, sockpool:recv(Conn, 1)),
    ?assertEqual({error, closed}, sockpool:checkin(Conn)),
    #{closed := 1, abandoned := 1} = settled(Pool),
    assert_no_messages().
