%%% Cases of how pools with transport => node connect, live and die that are the same wherever the pool is:
%%% in this VM, or served by the C node. Each gets its suite's Config.
-module(sockpool_node_connect_cases).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([ticks_while_idle/1, ticks_while_leased/1, unasked_messages/1, killed_under_calls/2]).
-export([wrong_cookie/2, unknown_node/1, port_without_epmd/1, other_node/1, not_a_node/1]).
-export([tls/2, tls_without_a_certificate/1, plain_to_tls/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1, unavailable/1,
                             why_unavailable/1]).
-import(sockpool_node_kit, [started/2, started/3, checked_out/1, waiting_call/2, node_of/1, start_apart/2,
                            with_tls_node/2]).

%%% Lives.

%% The node sends a tick each half a second, and takes for dead who does not answer four of them. It counts
%% what it got: two packets of the handshake, and the answers.
ticks_while_idle(Config) ->
    with_ticking_node(
      fun(Control, Node) ->
              Pool = started(Config, Node, #{size => 3}),
              _ = settled(Pool),
              wait_until(fun() -> heard(Control, 3, 8) end),
              ?assertMatch(#{closed := 0, created := 3}, settled(Pool)),
              ?assertEqual({ok, Node}, node_of(Pool))
      end).

ticks_while_leased(Config) ->
    with_ticking_node(
      fun(Control, Node) ->
              Pool = started(Config, Node, #{size => 2}),
              _ = settled(Pool),
              [Calling, Silent] = [checked_out(Pool), checked_out(Pool)],
              Job = waiting_call(Calling, ticked_call),
              wait_until(fun() -> heard(Control, 2, 8) end),
              ok = sockpool:send_to(Calling, ticked_call, {answer, still_here}),
              ?assertEqual({ok, still_here}, await(Job)),
              [ok = sockpool:checkin(Conn) || Conn <- [Calling, Silent]],
              ?assertMatch(#{closed := 0, created := 2}, settled(Pool))
      end).

%% This VM is not connected to it: its own tick time is another one.
with_ticking_node(Fun) ->
    #{control := Control, node := Node} =
        start_apart(peer:random_name(ticking), ["-kernel", "net_ticktime", "2"]),
    try Fun(Control, Node) after peer:stop(Control) end.

%% So many connections, each with so many packets to the node. A client calls over the daemon only.
heard(Control, Count, Packets) ->
    {ok, Infos} = peer:call(Control, net_kernel, nodes_info, []),
    In = [proplists:get_value(in, Info) || {Name, Info} <- Infos, is_of_pool(Name)],
    (length(In) =:= Count andalso lists:min(In) >= Packets) orelse In.

%% Names that a node makes have capitals and digits only.
is_of_pool(Name) ->
    [Alive, _] = string:split(atom_to_list(Name), "@"),
    Alive =:= string:uppercase(Alive).

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
    ?assertMatch({ok, _}, node_of(Pool)),
    ?assertMatch(#{closed := 0, created := 2}, settled(Pool)).

%% CheckedIn is what those hear who give back what has ended.
killed_under_calls(Config, CheckedIn) ->
    Name = peer:random_name(mortal),
    #{node := Node, os_pid := OsPid} = start_apart(Name, []),
    Pool = started(Config, Node, #{size => 2}),
    Conns = [One, Other] = [checked_out(Pool), checked_out(Pool)],
    Jobs = [waiting_call(Conn, Call)
            || {Conn, Call} <- [{One, mortal_1}, {One, mortal_2}, {Other, mortal_3}]],
    [] = os:cmd("kill -9 " ++ OsPid),
    [?assertMatch({error, Reason} when Reason =:= closed; Reason =:= econnreset, await(Job)) || Job <- Jobs],
    [?assertEqual({error, closed}, node_of(Conn)) || Conn <- Conns],
    [?assertEqual(CheckedIn, sockpool:checkin(Conn)) || Conn <- Conns],
    ?assertMatch(Why when Why =:= econnrefused; Why =:= {no_such_node, Node},
                 why_unavailable(fun() -> sockpool:call(Pool, erlang, node, [], 300) end)),
    ?assert(stat(Pool, connect_failures) > 0),
    #{control := Control} = start_apart(Name, []),
    ?assertEqual({ok, Node}, node_of(Pool)),
    ?assertMatch(#{closed := 2, abandoned := 0}, settled(Pool)),
    ok = sockpool:stop_pool(Pool),
    peer:stop(Control).

%%% Connecting.

wrong_cookie(Config, RightOnes) ->
    Pool = started(Config, #{cookie => not_the_cookie}),
    ?assertEqual({node, wrong_cookie}, unavailable(Pool)),
    #{connect_failures := Failures, idle := 0, created := 0} = sockpool_test_util:stats(Pool),
    ?assert(Failures > 0),
    ok = sockpool:stop_pool(Pool),
    [begin
         _ = started(Config, #{cookie => Cookie}),
         ?assertMatch({ok, _}, node_of(Pool)),
         ok = sockpool:stop_pool(Pool)
     end || Cookie <- RightOnes].

unknown_node(Config) ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    Unknown = list_to_atom("no_such_node@" ++ Host),
    ?assertEqual({no_such_node, Unknown}, unavailable(started(Config, Unknown, #{}))).

listens_at(Config) ->
    [Name, Host] = string:split(atom_to_list(?config(node, Config)), "@"),
    {port, Port, _} = erl_epmd:port_please(Name, Host),
    {Port, Host}.

port_without_epmd(Config) ->
    {Port, _Host} = listens_at(Config),
    Pool = started(Config, #{port => Port}),
    ?assertEqual({ok, ?config(node, Config)}, node_of(Pool)).

other_node(Config) ->
    {Port, Host} = listens_at(Config),
    Pool = started(Config, list_to_atom("other@" ++ Host), #{port => Port}),
    ?assertEqual({node, other_node}, unavailable(Pool)).

%% One that sends back what it gets, one that says nothing, one that closes.
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

%% Then is done with the pool once its connections have been used.
tls(Config, Then) ->
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
        ok = Then(Pool),
        ?assertMatch(#{closed := 0}, settled(Pool)),
        ok = sockpool:stop_pool(Pool),
        _ = started(Config, Node, #{tls => Identity, cookie => not_the_cookie}),
        ?assertEqual({node, wrong_cookie}, unavailable(Pool))
    end).

tls_without_a_certificate(Config) ->
    with_tls_node(Config, fun(Node, Trust, _Identity) ->
        ?assertMatch({tls, {alert, _}}, unavailable(started(Config, Node, #{tls => Trust})))
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
