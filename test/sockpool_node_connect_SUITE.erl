%%% How pools with transport => node connect, what the node sees of it, and how connections live and die.
-module(sockpool_node_connect_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([hidden/1, names_are_used_again/1, ticks_while_idle/1, ticks_while_leased/1,
         unasked_messages/1, killed_under_calls/1]).
-export([wrong_cookie/1, cookie_is_not_logged/1, unknown_node/1, port_without_epmd/1, other_node/1,
         not_a_node/1]).
-export([tls/1, tls_without_a_certificate/1, plain_to_tls/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1]).
-import(sockpool_node_kit, [started/2, started/3, checked_out/1, call/3, node_of/1, unavailable/1, why_unavailable/1,
                            start_apart/2, with_tls_node/2]).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [hidden, names_are_used_again, ticks_while_idle, ticks_while_leased, unasked_messages,
     killed_under_calls, wrong_cookie, cookie_is_not_logged, unknown_node, port_without_epmd,
     other_node, not_a_node, tls, tls_without_a_certificate, plain_to_tls].

init_per_suite(Config) ->
    Dir = filename:join(?config(priv_dir, Config), "node_tls"),
    ok = file:make_dir(Dir),
    ok = sockpool_tls_peers:certificates(Dir),
    sockpool_node_kit:init_suite([{tls_dir, Dir} | Config]).

end_per_suite(Config) -> sockpool_node_kit:end_suite(Config).
init_per_testcase(Case, Config) -> sockpool_node_kit:init_case(Case, Config).
end_per_testcase(_Case, _Config) -> sockpool_node_kit:end_case().

%%% What the node sees.

hidden(Config) ->
    Node = ?config(node, Config),
    Pool = started(Config, #{size => 3}),
    _ = settled(Pool),
    Conns = [checked_out(Pool) || _ <- lists:seq(1, 3)],
    Names = [begin {ok, #{name := Name}} = sockpool:info(Conn), Name end || Conn <- Conns],
    ?assertEqual(3, length(lists:usort(Names))),
    {ok, Hidden} = sockpool:call(hd(Conns), erlang, nodes, [hidden], 30000),
    {ok, Visible} = sockpool:call(hd(Conns), erlang, nodes, [], 30000),
    Known = [atom_to_binary(Name) || Name <- Hidden],
    ?assertEqual([], Names -- Known),
    ?assertEqual([], [Name || Name <- Visible, lists:member(atom_to_binary(Name), Names)]),
    ?assertNot(lists:member(Node, [binary_to_existing_atom(Name) || Name <- Names])),
    [ok = sockpool:checkin(Conn) || Conn <- Conns],
    ok = sockpool:stop_pool(Pool),
    wait_until(fun() -> erpc:call(Node, erlang, nodes, [hidden]) =:= [] end).

%% The node names us and uses those names again: 1,000 connections leave no more atoms there than as
%% many as there were at the same time.
names_are_used_again(Config) ->
    Node = ?config(node, Config),
    Pool = started(Config, #{size => 2, backoff => {1, 1}}),
    Reconnect = fun() ->
                        Conns = [checked_out(Pool) || _ <- [1, 2]],
                        [ok = sockpool:discard(Conn) || Conn <- Conns]
                end,
    [Reconnect() || _ <- lists:seq(1, 20)],
    Before = erpc:call(Node, erlang, system_info, [atom_count]),
    [Reconnect() || _ <- lists:seq(1, 500)],
    After = erpc:call(Node, erlang, system_info, [atom_count]),
    ct:pal("atoms of the node: ~b, and after 1,000 connections ~b", [Before, After]),
    ?assert(stat(Pool, created) >= 1000),
    ?assert(After - Before < 50),
    ok.

%% The node sends a tick each second, and takes for dead who does not answer four of them. It counts
%% what it got: two packets of the handshake, and the answers.
ticks_while_idle(Config) ->
    with_ticking_node(
      fun(Control, Node) ->
              Pool = started(Config, Node, #{size => 3}),
              _ = settled(Pool),
              wait_until(fun() -> heard(Control, 3, 8) end),
              ?assertMatch(#{closed := 0, created := 3}, settled(Pool)),
              ?assertEqual({ok, Node}, sockpool:call(Pool, erlang, node, [], 30000))
      end).

ticks_while_leased(Config) ->
    with_ticking_node(
      fun(Control, Node) ->
              Pool = started(Config, Node, #{size => 2}),
              _ = settled(Pool),
              [Calling, Silent] = [checked_out(Pool), checked_out(Pool)],
              Self = self(),
              Job = start(fun() -> call(Calling, answer_when_told, [ticked_call, Self]) end),
              wait_until(fun() -> heard(Control, 2, 8) end),
              ok = sockpool:send_to(Calling, ticked_call, {answer, still_here}),
              ?assertEqual({ok, still_here}, await(Job)),
              [ok = sockpool:checkin(Conn) || Conn <- [Calling, Silent]],
              ?assertMatch(#{closed := 0, created := 2}, settled(Pool))
      end).

%% This VM is not connected to it: its own tick time is another one.
with_ticking_node(Fun) ->
    #{control := Control, node := Node} = start_apart(peer:random_name(ticking), ["-kernel", "net_ticktime", "4"]),
    try Fun(Control, Node) after peer:stop(Control) end.

%% So many connections, each with so many packets to the node.
heard(Control, Count, Packets) ->
    {ok, Infos} = peer:call(Control, net_kernel, nodes_info, []),
    In = [proplists:get_value(in, Info) || {_Node, Info} <- Infos],
    (length(In) =:= Count andalso lists:min(In) >= Packets) orelse In.

%% They are passed over, on idle and on leased connections.
unasked_messages(Config) ->
    Pool = started(Config, #{size => 2}),
    _ = settled(Pool),
    #{control := Control} = ?config(peer, Config),
    ok = peer:call(Control, sockpool_node_kit, tell_everybody, []),
    Conns = [checked_out(Pool), checked_out(Pool)],
    ok = peer:call(Control, sockpool_node_kit, tell_everybody, []),
    [?assertMatch({ok, _}, node_of(Conn)) || Conn <- Conns],
    [ok = sockpool:checkin(Conn) || Conn <- Conns],
    ok = peer:call(Control, sockpool_node_kit, tell_everybody, []),
    ?assertMatch({ok, _}, sockpool:call(Pool, erlang, node, [], 30000)),
    ?assertMatch(#{closed := 0, created := 2}, settled(Pool)).

killed_under_calls(Config) ->
    Name = peer:random_name(mortal),
    #{node := Node, os_pid := OsPid} = start_apart(Name, []),
    Pool = started(Config, Node, #{size => 2}),
    Conns = [checked_out(Pool), checked_out(Pool)],
    Self = self(),
    Jobs = [start(fun() -> call(Conn, answer_when_told, [Call, Self]) end)
            || {Conn, Calls} <- lists:zip(Conns, [[mortal_1, mortal_2], [mortal_3]]), Call <- Calls],
    [receive {waiting, Call} -> ok after 30000 -> error(late) end || Call <- [mortal_1, mortal_2, mortal_3]],
    [] = os:cmd("kill -9 " ++ OsPid),
    [?assertMatch({error, Reason} when Reason =:= closed; Reason =:= econnreset, await(Job)) || Job <- Jobs],
    [?assertEqual({error, closed}, node_of(Conn)) || Conn <- Conns],
    [?assertEqual(ok, sockpool:checkin(Conn)) || Conn <- Conns],
    ?assertMatch(Why when Why =:= econnrefused; Why =:= {no_such_node, Node},
                 why_unavailable(fun() -> sockpool:call(Pool, erlang, node, [], 300) end)),
    ?assert(stat(Pool, connect_failures) > 0),
    #{control := Control} = start_apart(Name, []),
    ?assertEqual({ok, Node}, sockpool:call(Pool, erlang, node, [], 30000)),
    ?assertMatch(#{closed := 2, abandoned := 0}, settled(Pool)),
    ok = sockpool:stop_pool(Pool),
    peer:stop(Control).

%%% Connecting.

wrong_cookie(Config) ->
    Pool = started(Config, #{cookie => not_the_cookie}),
    ?assertEqual({node, wrong_cookie}, unavailable(Pool)),
    #{connect_failures := Failures, idle := 0, created := 0} = sockpool_test_util:stats(Pool),
    ?assert(Failures > 0),
    ok = sockpool:stop_pool(Pool),
    [begin
         _ = started(Config, #{cookie => Cookie}),
         ?assertMatch({ok, _}, sockpool:call(Pool, erlang, node, [], 30000)),
         ok = sockpool:stop_pool(Pool)
     end || Cookie <- [erlang:get_cookie(), atom_to_binary(erlang:get_cookie()),
                       fun erlang:get_cookie/0]].

cookie_is_not_logged(Config) ->
    Pool = started(Config, #{cookie => <<"s3cret">>}),
    ?assertEqual({node, wrong_cookie}, unavailable(Pool)),
    {_, Pid, _, _} = lists:keyfind({sockpool, Pool}, 1, supervisor:which_children(sockpool_sup)),
    Shown = io_lib:format("~p", [{sys:get_status(Pid), sys:get_status(sockpool_sup),
                                  sockpool:stats(Pool), process_info(Pid, [messages, dictionary])}]),
    ?assertEqual(nomatch, string:find(Shown, "s3cret")),
    ok = sockpool:stop_pool(Pool),
    [begin
         _ = started(Config, #{cookie => Fun}),
         ?assertEqual({cookie, Why}, unavailable(Pool)),
         ok = sockpool:stop_pool(Pool)
     end || {Fun, Why} <- [{fun() -> error(s3cret) end, error}, {fun() -> throw(s3cret) end, throw},
                           {fun() -> "s3cret" end, not_a_cookie}]].

unknown_node(Config) ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    Unknown = list_to_atom("no_such_node@" ++ Host),
    Pool = started(Config, Unknown, #{}),
    ?assertEqual({no_such_node, Unknown}, unavailable(Pool)).

listens_at(Config) ->
    [Name, Host] = string:split(atom_to_list(?config(node, Config)), "@"),
    {port, Port, _} = erl_epmd:port_please(Name, Host),
    {Port, Host}.

port_without_epmd(Config) ->
    {Port, _Host} = listens_at(Config),
    Pool = started(Config, #{port => Port}),
    ?assertEqual({ok, ?config(node, Config)}, sockpool:call(Pool, erlang, node, [], 30000)).

other_node(Config) ->
    {Port, Host} = listens_at(Config),
    Pool = started(Config, list_to_atom("other@" ++ Host), #{port => Port}),
    ?assertEqual({node, other_node}, unavailable(Pool)).

%% One that sends back what it gets, one that closes, one that says nothing.
not_a_node(Config) ->
    Server = sockpool_test_server:start(),
    Node = 'b@127.0.0.1',
    Pool = started(Config, Node, #{port => sockpool_test_server:port(Server)}),
    ?assertEqual({node, protocol_error}, unavailable(Pool)),
    ok = sockpool:stop_pool(Pool),
    {ok, Listen} = gen_tcp:listen(0, [{active, false}, {backlog, 100}]),
    {ok, Port} = inet:port(Listen),
    _ = started(Config, Node, #{port => Port, connect_timeout => 100}),
    ?assertEqual(timeout, unavailable(Pool)),
    Closer = start(fun Loop() ->
                           case gen_tcp:accept(Listen) of
                               {ok, Socket} ->
                                   _ = gen_tcp:recv(Socket, 0),
                                   ok = gen_tcp:close(Socket),
                                   Loop();
                               {error, closed} -> ok
                           end
                   end),
    wait_until(fun() -> unavailable(Pool) =:= {node, closed} end),
    ok = sockpool:stop_pool(Pool),
    ok = gen_tcp:close(Listen),
    ok = await(Closer).

%%% TLS distribution.

tls(Config) ->
    with_tls_node(Config, fun(Node, _Trust, Identity) ->
        Pool = started(Config, Node, #{tls => Identity, size => 2}),
        ?assertEqual({ok, Node}, node_of(Pool)),
        Conn = checked_out(Pool),
        ?assertMatch({ok, #{transport := node, node := Node, protocol := _, cipher := _}},
                     sockpool:info(Conn)),
        Bytes = binary:copy(<<"0123456789abcdef">>, 256 * 1024),
        Copies = [start(fun() -> {ok, Bytes} = sockpool:call(Conn, binary, copy, [Bytes], infinity), ok end)
                  || _ <- lists:seq(1, 4)],
        [ok = await(Job) || Job <- Copies],
        ok = sockpool:checkin(Conn),
        ok = sockpool:reload_tls(Pool),
        ?assertMatch(#{closed := 0}, settled(Pool)),
        ok = sockpool:stop_pool(Pool),
        _ = started(Config, Node, #{tls => Identity, cookie => not_the_cookie}),
        ?assertEqual({node, wrong_cookie}, unavailable(Pool))
    end).

tls_without_a_certificate(Config) ->
    with_tls_node(Config, fun(Node, Trust, _Identity) ->
        Pool = started(Config, Node, #{tls => Trust}),
        ?assertMatch({tls, {alert, _}}, unavailable(Pool))
    end).

plain_to_tls(Config) ->
    with_tls_node(Config, fun(Node, _Trust, Identity) ->
        Pool = started(Config, Node, #{}),
        ?assertMatch({node, Why} when Why =:= protocol_error; Why =:= closed, unavailable(Pool)),
        ok = sockpool:stop_pool(Pool),
        %% And by TLS to a plain node, which waits for the rest of what looks like a long message.
        _ = started(Config, #{tls => Identity, connect_timeout => 100}),
        ?assertEqual(timeout, unavailable(Pool))
    end).
