%%% Pools that the daemon priv/sockpool_node serves, where it is not as an Erlang node: how it ends, what it
%%% holds, and what connects it to its servers. What all serving nodes have in common is in
%%% sockpool_remote_SUITE and sockpool_remote_ends_SUITE.
-module(sockpool_c_node_pools_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
-export([killed_under_load/1, leases_of_an_earlier_run/1, asleep_when_nobody_speaks/1, drained_at_sigterm/1,
         drain_has_an_end/1, drained_before_all_is_closed/1, second_sigterm/1, names_that_nobody_knows/1,
         no_memory_for_a_connection/1]).
-export([crowd_of_two_nodes/1, stop_with_everything_under_way/1, started_and_stopped_often/1,
         calls_behind_a_waiting_one/1, to_a_full_socket/1, wrong_sends/1, answered_while_it_reads/1,
         many_processes_of_a_node/1, calls_passed_on/1, longest_data/1]).
-export([unix_socket/1, names/1, nobody_listens/1, silent_host/1, server_comes_back/1,
         several_hosts/1, idle_connections_that_end/1, many_dead_before_those_alive/1]).
-export([tls/1, tls_refusals/1, tls_files/1, tls_that_says_nothing/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1]).
-import(sockpool_cluster, [client/1, run/2, begin_run/2, result/1]).
-import(sockpool_remote_kit, [started/2, target/1]).
-import(sockpool_tls_kit, [pem/2, identity/2]).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [{group, alone}, {group, c}].

groups() ->
    [{alone, [killed_under_load, leases_of_an_earlier_run, asleep_when_nobody_speaks, drained_at_sigterm,
              drain_has_an_end, drained_before_all_is_closed, second_sigterm, names_that_nobody_knows,
              no_memory_for_a_connection]},
     {c, [crowd_of_two_nodes, stop_with_everything_under_way, started_and_stopped_often,
          calls_behind_a_waiting_one, to_a_full_socket, answered_while_it_reads, wrong_sends,
          many_processes_of_a_node, calls_passed_on, longest_data,
          unix_socket, names, nobody_listens, silent_host,
          server_comes_back, several_hosts, idle_connections_that_end, many_dead_before_those_alive, tls, tls_refusals, tls_files,
          tls_that_says_nothing]}].

init_per_suite(Config) ->
    sockpool_c_daemon:if_built(fun() -> sockpool_remote_kit:init_suite(sockpool_tls_kit:start(Config)) end).

end_per_suite(Config) ->
    sockpool_remote_kit:end_suite(Config),
    sockpool_tls_kit:stop(Config).

init_per_group(alone, Config) -> Config;
init_per_group(c, Config) -> sockpool_remote_kit:init_group(c, Config).

end_per_group(alone, _Config) -> ok;
end_per_group(c, Config) -> sockpool_remote_kit:end_group(c, Config).

%% Those that end their daemon have one of their own.
init_per_testcase(Case, Config) ->
    case ?config(kind, Config) of
        undefined ->
            #{node := Node} = Daemon = sockpool_c_daemon:start(#{args => args(Case)}),
            [{daemon, Daemon}, {pool, {Case, Node}}, {node, Node}, {server, sockpool_test_server:start()},
             {other_node, maps:get(node, ?config(other, Config))} | Config];
        c ->
            [{daemon, ?config(serving, Config)} | sockpool_remote_kit:init_case(Case, Config)]
    end.

%% A time that can be waited for; the others give back what they have.
args(drain_has_an_end) -> ["--stop-timeout", "500"];
args(drained_before_all_is_closed) -> ["--stop-timeout", "1"];
args(_Case) -> [].

end_per_testcase(_Case, Config) ->
    case ?config(kind, Config) of
        undefined -> ok;
        c -> sockpool_remote_kit:end_case(Config)
    end.

%%% Ends.

killed_under_load(Config) ->
    Pool = {Name, Node} = started(Config, #{size => 5, max_overflow => 5}),
    Nodes = [node(), ?config(other_node, Config)],
    Clients = [client(lists:nth(1 + N rem 2, Nodes)) || N <- lists:seq(1, 40)],
    Refs = [begin_run(Client, fun() -> until_it_fails(Pool, N) end)
            || {N, Client} <- lists:enumerate(Clients)],
    ok = wait_until(fun() -> stat(Pool, checkouts) > 500 end),
    ok = sockpool_c_daemon:kill(?config(daemon, Config)),
    [?assertEqual({error, {nodedown, Node}}, result(Ref)) || Ref <- Refs],
    %% Its successor knows nothing of all that, and of nobody.
    Next = sockpool_c_daemon:start(#{name => Node}),
    ok = wait_until(fun() -> sockpool:which_pools(Node) =:= {ok, []} end),
    ?assertEqual({error, not_found}, sockpool:checkout(Pool)),
    ok = sockpool:start_pool(Pool, target(Config)),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)),
    ?assertEqual({ok, [Name]}, sockpool:which_pools(Node)),
    [ok = sockpool_cluster:kill(Client) || Client <- Clients],
    ?assertEqual(0, sockpool_c_daemon:stop(Next)).

%% Every result that is no success ends it. The last one is what the daemon's end led to.
until_it_fails(Pool, N) ->
    Result = case N rem 4 of
                 0 -> sockpool:request(Pool, "abc", 3, 20000);
                 1 -> sockpool:request(Pool, binary:copy(<<"x">>, 100000), 100000, 20000);
                 2 -> sockpool:checkout(Pool, 20000);
                 3 -> sockpool:checkout(Pool, infinity)
             end,
    case Result of
        {ok, Data} when is_binary(Data) -> until_it_fails(Pool, N);
        {ok, Conn} -> use(Conn, Pool, N);
        {error, _} = Error -> Error
    end.

use(Conn, Pool, N) ->
    case {sockpool:send(Conn, "x"), sockpool:recv(Conn, 1), sockpool:checkin(Conn)} of
        {ok, {ok, <<"x">>}, ok} -> until_it_fails(Pool, N);
        {_, _, Last} -> Last
    end.

leases_of_an_earlier_run(Config) ->
    Pool = {_, Node} = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Old} = sockpool:checkout(Pool),
    ok = sockpool_c_daemon:kill(?config(daemon, Config)),
    Next = sockpool_c_daemon:start(#{name => Node}),
    ok = wait_until(fun() -> sockpool:start_pool(Pool, target(Config)) =:= ok end),
    {ok, New} = sockpool:checkout(Pool),
    %% The same number, of another incarnation.
    ?assertEqual(element(4, Old), element(4, New)),
    ?assertNotEqual(Old, New),
    [?assertEqual({error, closed}, Result)
     || Result <- [sockpool:send(Old, "x"), sockpool:recv(Old, 1), sockpool:info(Old),
                   sockpool:give_away(Old, self()), sockpool:discard(Old), sockpool:checkin(Old)]],
    ok = gen_server:cast({sockpool, Node}, {cancel, Old}),
    ok = sockpool:send(New, "x"),
    ?assertEqual({ok, <<"x">>}, sockpool:recv(New, 1)),
    ok = sockpool:checkin(New),
    ?assertEqual(0, sockpool_c_daemon:stop(Next)).

%% It looks out for more after it was spoken to, but not for ever.
asleep_when_nobody_speaks(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    Daemon = ?config(daemon, Config),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)),
    ok = wait_until(fun() -> sockpool_c_daemon:is_asleep(Daemon) end),
    ?assertEqual(0, sockpool_c_daemon:stop(Daemon)).

drained_at_sigterm(Config) ->
    Pool = {_, Node} = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    Waiting = start(fun() -> sockpool:checkout(Pool, infinity) end),
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    Monitor = monitor(process, {sockpool, Node}),
    Daemon = ?config(daemon, Config),
    Stopping = start(fun() -> sockpool_c_daemon:stop(Daemon) end),
    ?assertEqual({error, draining}, await(Waiting)),
    [?assertEqual({error, draining}, Result)
     || Result <- [sockpool:checkout(Pool), sockpool:request(Pool, "x", 1, 5000),
                   sockpool:start_pool({another, Node}, target(Config))]],
    %% Who has a connection may finish.
    ok = sockpool:send(Conn, "x"),
    ?assertEqual({ok, <<"x">>}, sockpool:recv(Conn, 1)),
    ok = sockpool:checkin(Conn),
    receive {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(shutdown, Reason) end,
    ?assertEqual(0, await(Stopping)).

%% One who never gives back does not keep the daemon.
drain_has_an_end(Config) ->
    Pool = {_, Node} = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    Daemon = ?config(daemon, Config),
    ok = sockpool_c_daemon:terminate(Daemon),
    ok = wait_until(fun() -> sockpool:checkout(Pool, 0) =:= {error, draining} end),
    _ = sockpool_c_daemon:await_line(Daemon, "event=not_drained"),
    ?assertEqual("exit_status=0", sockpool_c_daemon:await_line(Daemon, "exit_status=")),
    ?assertEqual({error, {nodedown, Node}}, sockpool:checkin(Conn)).

%% The drain has its time, and closing takes longer: that is no lease that is still held.
drained_before_all_is_closed(Config) ->
    Pool = {_, Node} = started(Config, #{size => 500, max_overflow => 0}),
    ?assertMatch(#{idle := 500}, settled(Pool)),
    Daemon = ?config(daemon, Config),
    ok = sockpool_c_daemon:terminate(Daemon),
    assert_drained(Daemon),
    ?assertEqual({error, {nodedown, Node}}, down(Pool)).

second_sigterm(Config) ->
    Pool = {_, Node} = started(Config, #{size => 1, max_overflow => 0}),
    Holder = start(fun() ->
                           {ok, Conn} = sockpool:checkout(Pool),
                           sockpool:recv(Conn, 1, infinity)
                   end),
    ok = wait_until(fun() -> stat(Pool, leased) =:= 1 end),
    Daemon = ?config(daemon, Config),
    ok = sockpool_c_daemon:terminate(Daemon),
    ok = wait_until(fun() -> sockpool:checkout(Pool, 0) =:= {error, draining} end),
    ok = sockpool_c_daemon:terminate(Daemon),
    ?assertEqual({error, closed}, await(Holder)),
    ?assertEqual({error, {nodedown, Node}}, down(Pool)),
    assert_drained(Daemon).

%% It was not the drain's time that was over.
assert_drained(Daemon) ->
    Lines = sockpool_c_daemon:lines_until(Daemon, "exit_status="),
    ?assertEqual("exit_status=0", lists:last(Lines)),
    ?assertEqual([], [Line || Line <- Lines, string:find(Line, "event=not_drained") =/= nomatch]).

%% A lookup that does not end keeps nobody: not the attempt, not the pool's stop, not the daemon's end.
names_that_nobody_knows(Config) ->
    with_library(Config, "slow_lookup", [], fun(Daemon) -> slow_lookup(Config, Daemon) end).

%% A daemon that has this library before its own.
with_library(Config, Name, Env, Fun) ->
    case os:getenv("SOCKPOOL_NODE") of
        false ->
            Library = filename:join(?config(priv_dir, Config), Name ++ ".so"),
            Source = filename:join([sockpool_test_util:root(), "test/daemon", Name ++ ".c"]),
            "" = os:cmd(lists:concat(["cc -shared -fPIC -o ", Library, " ", Source, " -ldl"])),
            0 = sockpool_c_daemon:stop(?config(daemon, Config)),
            Fun(sockpool_c_daemon:start(#{env => [{"LD_PRELOAD", Library} | Env]}));
        _ ->
            {skip, "the sanitizers do not want another library before theirs"}
    end.

slow_lookup(Config, #{node := Node} = Daemon) ->
    Opts = #{port => 1, connect_timeout => 50, backoff => {1, 10}, size => 1},
    Slow = Opts#{host => "slow.invalid"},
    {One, Two} = {{one, Node}, {two, Node}},
    ok = sockpool:start_pool(One, Slow),
    ok = wait_until(fun() -> sockpool:checkout(One, 300) =:= {error, {unavailable, timeout}} end),
    %% Nor are others kept from theirs, however often it is tried.
    ok = wait_until(fun() -> stat(One, connect_failures) > 20 end),
    ok = sockpool:stop_pool(One),
    ok = sockpool:start_pool(One, (target(Config))#{host => "localhost"}),
    ?assertEqual({ok, <<"x">>}, sockpool:request(One, "x", 1, 5000)),
    %% As many as the threads that libuv has by default: another name is found all the same.
    Crowd = [{list_to_atom(lists:concat([crowd, N])), Node} || N <- lists:seq(1, 40)],
    [ok = sockpool:start_pool(Pool, Slow#{host => lists:concat(["slow", N, ".invalid"])})
     || {N, Pool} <- lists:enumerate(Crowd)],
    [ok = wait_until(fun() -> stat(Pool, connect_failures) > 0 end) || Pool <- Crowd],
    ok = sockpool:start_pool({found, Node}, (target(Config))#{host => "localhost"}),
    ?assertEqual({ok, <<"x">>}, sockpool:request({found, Node}, "x", 1, 5000)),
    ok = sockpool:start_pool(Two, Slow#{connect_timeout => 60000}),
    ok = wait_until(fun() -> stat(Two, connecting) =:= 1 end),
    ?assertEqual(0, sockpool_c_daemon:stop(Daemon)).

%% It waits until there is, and so do those after it.
no_memory_for_a_connection(Config) ->
    Order = filename:join(?config(priv_dir, Config), "fail_calloc"),
    ok = file:write_file(Order, <<>>),
    with_library(Config, "fail_calloc", [{"FAIL_CALLOC", Order}], fun(#{node := Node} = Daemon) ->
        [Name, Host] = string:lexemes(atom_to_list(Node), "@"),
        {port, Port, _} = erl_epmd:port_please(Name, Host),
        Listens = #{listens => Port, name => Node, cookie => atom_to_list(erlang:get_cookie())},
        ok = file:write_file(Order, <<"fail">>),
        First = sockpool_handmade_node:join(Listens, "first@127.0.0.1"),
        ?assertNotEqual(nomatch, string:find(sockpool_c_daemon:await_line(Daemon, "event=not_accepted"), "not enough memory")),
        Second = sockpool_handmade_node:join(Listens, "second@127.0.0.1"),
        [ok = gen_tcp:close(Socket) || Socket <- [First, Second]],
        ?assertEqual(0, sockpool_c_daemon:stop(Daemon))
    end).

down(Pool) ->
    ok = wait_until(fun() -> element(1, element(2, sockpool:stats(Pool))) =:= nodedown end),
    sockpool:stats(Pool).

%%% What it holds.

%% So many at once that each connection serves a hundred.
crowd_of_two_nodes(Config) ->
    Pool = started(Config, #{size => 10, max_overflow => 52}),
    Nodes = [node(), ?config(other_node, Config)],
    Half = fun(Count) ->
                   sockpool_test_util:run_all([fun() -> request_of(Pool, N) end || N <- lists:seq(1, Count)])
           end,
    Counts = [62, 620, 6200],
    [begin
         Clients = [client(Node) || Node <- Nodes],
         Refs = [begin_run(Client, fun() -> Half(Count div 2) end) || Client <- Clients],
         Results = lists:append([result(Ref) || Ref <- Refs]),
         ?assertEqual(Count, length(Results)),
         ?assertEqual([ok], lists:usort(Results)),
         [ok = sockpool_cluster:kill(Client) || Client <- Clients]
     end || Count <- Counts],
    Sum = lists:sum(Counts),
    #{total := Total, idle := Total, checkouts := Sum, checkins := Sum, closed := 0, timeouts := 0,
      abandoned := 0} = settled(Pool),
    ?assert(Total =< 62).

request_of(Pool, N) ->
    Data = <<N:64, "of", (term_to_binary(node()))/binary>>,
    case sockpool:request(Pool, Data, byte_size(Data), 60000) of
        {ok, Data} -> ok;
        Other -> Other
    end.

stop_with_everything_under_way(Config) ->
    Daemon = ?config(daemon, Config),
    Before = sockpool_c_daemon:descriptors(Daemon),
    Silent = sockpool_test_server:start(silent),
    Pool = started([{server, Silent} | Config], #{size => 3, max_overflow => 0}),
    ?assertEqual(Before + 3, sockpool_c_daemon:descriptors(Daemon)),
    Holder = client(?config(other_node, Config)),
    {ok, Held} = run(Holder, fun() -> sockpool:checkout(Pool) end),
    Receiving = start(fun() ->
                              {ok, Conn} = sockpool:checkout(Pool),
                              {sockpool:recv(Conn, 1, infinity), sockpool:checkin(Conn)}
                      end),
    Request = start(fun() -> sockpool:request(Pool, "x", 1, infinity) end),
    ok = wait_until(fun() -> stat(Pool, leased) =:= 3 end),
    Waiting = [start(fun() -> sockpool:checkout(Pool, infinity) end),
               start(fun() -> sockpool:request(Pool, "y", 1, infinity) end)],
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 2 end),
    ok = sockpool:stop_pool(Pool),
    ?assertEqual({{error, closed}, {error, closed}}, await(Receiving)),
    ?assertEqual({error, closed}, await(Request)),
    [?assertEqual({error, draining}, await(Job)) || Job <- Waiting],
    ?assertEqual({error, closed}, run(Holder, fun() -> sockpool:checkin(Held) end)),
    ?assertEqual({error, not_found}, sockpool:checkout(Pool)),
    ok = wait_until(fun() -> sockpool_c_daemon:descriptors(Daemon) =:= Before end),
    %% The name is free.
    ok = sockpool:start_pool(Pool, target(Config)),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)),
    ok = sockpool_cluster:kill(Holder).

%% In every state of its connections.
started_and_stopped_often(Config) ->
    Daemon = ?config(daemon, Config),
    Pool = ?config(pool, Config),
    Silent = sockpool_test_server:start(silent),
    Unheard = sockpool_test_server:start(echo, #{listen => false}),
    Tls = #{transport => tls, tls => #{verify => none}},
    Targets = [target(Config), sockpool_test_server:target(Unheard),
               maps:merge(sockpool_test_server:target(Silent), Tls),
               (target(Config))#{host => "localhost"}, (target(Config))#{host => "no.such.host.invalid"}],
    Before = sockpool_c_daemon:descriptors(Daemon),
    [begin
         ok = sockpool:start_pool(Pool, Target#{size => 20}),
         _ = rand:uniform(2) =:= 1 andalso sockpool:request(Pool, "x", 1, 1),
         ok = sockpool:stop_pool(Pool)
     end || _ <- lists:seq(1, 10), Target <- Targets],
    ok = wait_until(fun() -> sockpool_c_daemon:descriptors(Daemon) =:= Before end).

%% One call at a time: a second one does not wait for the first, but for {cancel, Lease}.
calls_behind_a_waiting_one(Config) ->
    Sink = sockpool_test_server:start(sink, #{recbuf => 4096}),
    Pool = {_, Node} = started([{server, Sink} | Config], #{size => 1, max_overflow => 0, sndbuf => 16384}),
    Server = {sockpool, Node},
    [begin
         {ok, Conn} = sockpool:checkout(Pool),
         Waiting = gen_server:send_request(Server, {Call, Conn, Argument, infinity}),
         [?assertEqual({error, busy}, gen_server:call(Server, Request))
          || Request <- [{recv, Conn, 1, 0}, {send, Conn, <<"x">>, 0}, {checkin, Conn}, {discard, Conn},
                         {give_away, Conn, self()}, {setopts, Conn, []}]],
         ok = gen_server:cast(Server, {cancel, Conn}),
         ?assertEqual({error, closed}, sockpool:checkin(Conn)),
         ?assertEqual(timeout, gen_server:wait_response(Waiting, 0)),
         #{closed := Closed, abandoned := Closed} = settled(Pool)
     end || {Call, Argument, Closed} <- [{recv, 1, 1}, {send, binary:copy(<<"d">>, 1000000), 2}]],
    ok.

%% The server reads nothing: what the socket does not take waits, and other calls do not.
to_a_full_socket(Config) ->
    Sink = sockpool_test_server:start(sink, #{recbuf => 4096}),
    Pool = started([{server, Sink} | Config], #{size => 3, max_overflow => 0, packet => 4,
                                                sndbuf => 16384, send_timeout => 50}),
    %% More than both sockets take, and no more: where a large one is half a second on its way to the daemon,
    %% who would not wait has given it up by then, and its lease has ended.
    Data = binary:copy(<<"d">>, 1000000),
    Sending = client(node()),
    _ = begin_run(Sending, fun() ->
                                   {ok, Conn} = sockpool:checkout(Pool),
                                   sockpool:send(Conn, Data, infinity)
                           end),
    ok = wait_until(fun() -> stat(Pool, leased) =:= 1 end),
    {ok, Conn} = sockpool:checkout(Pool),
    ?assertEqual({error, timeout}, sockpool:send(Conn, Data)),
    ?assertEqual({error, timeout}, sockpool:send(Conn, Data, 0)),
    ?assertEqual({error, timeout}, sockpool:request(Pool, Data, packet, 50)),
    ok = sockpool:checkin(Conn),
    #{leased := 1, closed := 2} = sockpool_test_util:stats(Pool),
    ok = sockpool_cluster:kill(Sending),
    #{closed := 3, abandoned := 1} = settled(Pool),
    ok.

answered_while_it_reads(Config) ->
    Server = sockpool_test_server:start({script, fun sockpool_test_server:in_step/1}),
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, maps:merge(sockpool_test_server:target(Server), #{size => 1, max_overflow => 0})),
    Data = rand:bytes(20 * 1048576),
    ?assert({ok, Data} =:= sockpool:request(Pool, Data, byte_size(Data), 60000)),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:send(Conn, Data, 60000),
    ?assert({ok, Data} =:= sockpool:recv(Conn, byte_size(Data), 60000)),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)).

wrong_sends(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, packet => 1, recv_limit => 10}),
    Long = binary:copy(<<"x">>, 256),
    ?assertEqual({error, emsgsize}, sockpool:request(Pool, Long, packet, 1000)),
    {ok, Conn} = sockpool:checkout(Pool),
    Waiting = start(fun() -> sockpool:request(Pool, Long, packet, 1000) end),
    ?assertEqual({error, emsgsize}, await(Waiting)),
    ?assertEqual({error, emsgsize}, sockpool:send(Conn, Long)),
    ok = sockpool:send(Conn, "01234567890"),
    ?assertEqual({error, emsgsize}, sockpool:recv(Conn, 0)),
    ok = sockpool:checkin(Conn),
    ?assertEqual({ok, <<1, "x">>}, sockpool:request(Pool, "x", 2, 1000)),
    ?assertEqual({ok, <<>>}, sockpool:request(Pool, "", packet, 5000)),
    #{closed := Closed} = settled(Pool),
    ?assert(Closed >= 1).

%% More than are watched while they have nothing.
many_processes_of_a_node(Config) ->
    Pool = started(Config, #{size => 5, max_overflow => 0}),
    Live = [client(?config(other_node, Config)) || _ <- lists:seq(1, 1500)],
    Once = fun() -> sockpool:request(Pool, "x", 1, 60000) end,
    Rounds = [[begin_run(Client, Once) || Client <- Live] || _ <- [1, 2]],
    [?assertEqual({ok, <<"x">>}, result(Ref)) || Refs <- Rounds, Ref <- Refs],
    %% One that was forgotten, and comes again, is watched again.
    [First | _] = Live,
    {ok, _} = run(First, fun() -> sockpool:checkout(Pool) end),
    ok = sockpool_cluster:kill(First),
    #{abandoned := 1, checkouts := 3001} = settled(Pool),
    [ok = sockpool_cluster:kill(Client) || Client <- Live].

%% A call in the name of a process of another node: that one is answered, owns the lease, and is watched.
calls_passed_on(Config) ->
    Pool = {Name, Node} = started(Config, #{size => 1, max_overflow => 0}),
    Client = client(?config(other_node, Config)),
    {ok, _} = run(Client, fun() -> sockpool:stats(Pool) end),
    Tag = make_ref(),
    {sockpool, Node} ! {'$gen_call', {Client, Tag}, {checkout, make_ref(), Name, 0}},
    {ok, Lease} = run(Client, fun() -> receive {Tag, Answer} -> Answer end end),
    ?assertEqual({error, not_owner}, sockpool:info(Lease)),
    ?assertMatch({ok, _}, run(Client, fun() -> sockpool:info(Lease) end)),
    ok = sockpool_cluster:kill(Client),
    #{abandoned := 1, closed := 0} = settled(Pool),
    ok.

%% A message of 64 MB there and back, as much as recv_limit allows by default.
longest_data(Config) ->
    Bytes = 64 * 1024 * 1024,
    Serve = fun(Socket) ->
                    {ok, Data} = gen_tcp:recv(Socket, Bytes),
                    ok = gen_tcp:send(Socket, Data),
                    gen_tcp:recv(Socket, 0)
            end,
    Server = sockpool_test_server:start({script, Serve}),
    Pool = started([{server, Server} | Config], #{size => 1, max_overflow => 0}),
    Data = binary:copy(<<"0123456789abcdef">>, Bytes div 16),
    ?assert({ok, Data} =:= sockpool:request(Pool, Data, Bytes, 60000)),
    ?assertEqual({error, emsgsize}, sockpool:request(Pool, "x", Bytes + 1, 60000)),
    #{checkouts := 1, closed := 0} = settled(Pool),
    ok.

%%% Connecting.

unix_socket(Config) ->
    Path = sockpool_test_util:unix_path(),
    Server = sockpool_test_server:start(echo, #{path => Path}),
    Pool = started([{server, Server} | Config], #{size => 1}),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)),
    {ok, Conn} = sockpool:checkout(Pool),
    ?assertEqual({ok, {local, list_to_binary(Path)}}, sockpool:peername(Conn)),
    ?assertEqual({ok, {local, <<>>}}, sockpool:sockname(Conn)),
    ?assertMatch({ok, #{transport := unix}}, sockpool:info(Conn)),
    ?assertEqual({error, enoprotoopt}, sockpool:setopts(Conn, [{nodelay, true}])),
    ok = sockpool:checkin(Conn).

names(Config) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, (target(Config))#{host => "localhost", size => 2}),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 10000)),
    ok = sockpool:stop_pool(Pool),
    ok = sockpool:start_pool(Pool, (target(Config))#{host => "no.such.host.invalid", backoff => {1, 10}}),
    ok = wait_until(fun() -> sockpool:checkout(Pool, 1000) =:= {error, {unavailable, nxdomain}} end).

nobody_listens(Config) ->
    Server = sockpool_test_server:start(echo, #{listen => false}),
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, (sockpool_test_server:target(Server))#{backoff => {1, 10}}),
    ok = failed_to_connect(Pool),
    ?assertEqual({error, {unavailable, econnrefused}}, sockpool:checkout(Pool, 300)),
    ?assertEqual({error, {unavailable, econnrefused}}, sockpool:request(Pool, "x", 1, 300)),
    ?assertEqual({error, full}, sockpool:checkout(Pool, 0)),
    #{timeouts := 2, leased := 0} = sockpool_test_util:stats(Pool),
    %% Those who wait get the first connection that there is.
    Waiting = start(fun() -> sockpool:request(Pool, "x", 1, 60000) end),
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    ok = sockpool_test_server:up(Server),
    ?assertEqual({ok, <<"x">>}, await(Waiting)).

%% Who will not wait gets one that is alive all the same.
many_dead_before_those_alive(Config) ->
    Pool = ?config(pool, Config),
    ok = sockpool_dead_idle:start(Pool, 500, 10),
    {ok, Conn} = sockpool:checkout(Pool, 0),
    ?assertEqual(ok, sockpool:checkin(Conn)),
    ok = sockpool:stop_pool(Pool),
    ok = sockpool_dead_idle:start(Pool, 500, 10),
    ?assertEqual({error, timeout}, sockpool:request(Pool, "x", 1, 0)).

%% More than once: from then on whoever waits in vain hears why.
failed_to_connect(Pool) -> wait_until(fun() -> stat(Pool, connect_failures) > 1 end).

%% Connected, but the handshake is never answered.
silent_host(Config) ->
    Silent = sockpool_test_server:start(silent),
    Pool = ?config(pool, Config),
    Target = sockpool_test_server:target(Silent),
    ok = sockpool:start_pool(Pool, Target#{transport => tls, tls => #{verify => none},
                                           connect_timeout => 50, backoff => {1, 10}}),
    ok = failed_to_connect(Pool),
    ?assertEqual({error, {unavailable, timeout}}, sockpool:checkout(Pool, 1000)).

server_comes_back(Config) ->
    Pool = started(Config, #{size => 3, max_overflow => 0, backoff => {1, 10}}),
    Server = ?config(server, Config),
    ok = sockpool_test_server:down(Server),
    ok = wait_until(fun() ->
                            sockpool:request(Pool, "x", 1, 100) =:= {error, {unavailable, econnrefused}}
                    end),
    ok = sockpool_test_server:up(Server),
    ok = wait_until(fun() -> sockpool:request(Pool, "x", 1, 1000) =:= {ok, <<"x">>} end),
    #{total := 3} = settled(Pool),
    ok.

%% One that nobody has is skipped.
several_hosts(Config) ->
    Pool = ?config(pool, Config),
    Hosts = [{127, 0, 0, 77}, "no.such.host.invalid", {127, 0, 0, 1}, <<"localhost">>],
    Server = sockpool_test_server:start(echo, #{ip => {127, 0, 0, 1}}),
    ok = sockpool:start_pool(Pool, (sockpool_test_server:target(Server))#{host => Hosts, size => 8,
                                                                          connect_timeout => 60000}),
    #{total := 8, connect_failures := 0} = settled(Pool),
    ok.

%% Noticed without traffic, once they have been idle for a second.
idle_connections_that_end(Config) ->
    Pool = started(Config, #{size => 2, max_overflow => 0}),
    Accepted = fun() -> wait_until(fun() -> sockpool_test_server:live(?config(server, Config)) =:= 2 end) end,
    ok = Accepted(),
    ok = sockpool_test_server:close_connections(?config(server, Config)),
    ok = wait_until(fun() -> stat(Pool, created) =:= 4 end),
    #{closed := 2, checkouts := 0} = settled(Pool),
    %% Bytes that nobody asked for end a connection, too.
    ok = Accepted(),
    ok = sockpool_test_server:push(?config(server, Config), "news"),
    ok = wait_until(fun() -> stat(Pool, created) =:= 6 end),
    #{closed := 4, checkouts := 0} = settled(Pool),
    ok.

%%% TLS.

tls(Config) ->
    Server = sockpool_tls_peers:ssl_server(identity(Config, "server")),
    Pool = tls_pool(Config, Server, #{cacertfile => pem(Config, "ca")}),
    Data = rand:bytes(300000),
    ?assert({ok, Data} =:= sockpool:request(Pool, Data, byte_size(Data), 20000)),
    {ok, Conn} = sockpool:checkout(Pool),
    {ok, Info} = sockpool:info(Conn),
    ?assertMatch(#{transport := tls, protocol := 'tlsv1.3', cipher := _, peercert := <<_/binary>>,
                   alpn := undefined, resumed := _, ktls := false}, Info),
    ok = sockpool:send(Conn, "a"),
    ?assertEqual({ok, <<"a">>}, sockpool:recv(Conn, 1)),
    %% More than was asked for is there, decrypted already.
    ok = sockpool:send(Conn, "bcd"),
    ?assertEqual([{ok, <<"b">>}, {ok, <<"c">>}, {ok, <<"d">>}],
                 [sockpool:recv(Conn, 1) || _ <- lists:seq(1, 3)]),
    ok = sockpool:checkin(Conn),
    #{closed := 0, checkouts := 2} = settled(Pool),
    ok.

tls_pool(Config, Server, Tls) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, #{host => "localhost", port => sockpool_tls_peers:port(Server),
                                     size => 1, max_overflow => 0, backoff => {1, 50},
                                     connect_timeout => 60000, transport => tls, tls => Tls}),
    Pool.

tls_refusals(Config) ->
    [begin
         Server = sockpool_tls_peers:ssl_server(identity(Config, Certificate)),
         Pool = tls_pool(Config, Server, #{cacertfile => pem(Config, Authority)}),
         ok = wait_until(fun() ->
                                 sockpool:checkout(Pool, 500) =:= {error, {unavailable, {tls, Why}}}
                         end),
         ok = sockpool:stop_pool(Pool)
     end || {Certificate, Authority, Why} <- [{"elsewhere", "ca", hostname_mismatch},
                                              {"server", "other_ca", unknown_ca}]],
    %% It reads what it is sent: closing over it would reset the connection.
    Plain = sockpool_test_server:start({script, fun(Socket) ->
                                                        ok = gen_tcp:send(Socket, "220 hello\r\n"),
                                                        {ok, _} = gen_tcp:recv(Socket, 0),
                                                        gen_tcp:recv(Socket, 0)
                                                end}),
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, (sockpool_test_server:target(Plain))#{
                                     transport => tls, tls => #{verify => none},
                                     connect_timeout => 60000, backoff => {1, 10}}),
    ok = failed_to_connect(Pool),
    ?assertEqual({error, {unavailable, {tls, not_tls}}}, sockpool:checkout(Pool, 500)).

tls_files(Config) ->
    Pool = ?config(pool, Config),
    Start = fun(Tls) ->
                    sockpool:start_pool(Pool, #{host => "localhost", port => 1, transport => tls, tls => Tls})
            end,
    ?assertEqual({error, {tls, {cacertfile, enoent}}}, Start(#{cacertfile => "/no/such/file"})),
    ?assertEqual({error, {bad_option, {tls, colour}, not_shown}}, Start(#{colour => red})),
    ?assertMatch({error, {tls, {keyfile, _}}},
                 Start(#{certfile => pem(Config, "server"), keyfile => pem(Config, "ca")})),
    ?assertEqual({error, not_found}, sockpool:stats(Pool)),
    ok = Start(#{cacertfile => pem(Config, "ca")}).

%% Its handshakes never end; other pools do not notice.
tls_that_says_nothing(Config) ->
    {Name, Node} = Pool = started(Config, #{}),
    Silent = sockpool_test_server:start(silent),
    Mute = {list_to_atom(atom_to_list(Name) ++ "_mute"), Node},
    ok = sockpool:start_pool(Mute, (sockpool_test_server:target(Silent))#{
                                     transport => tls, tls => #{verify => none}, size => 50}),
    ok = wait_until(fun() -> stat(Mute, connecting) > 0 end),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)),
    ok = sockpool:stop_pool(Mute).
