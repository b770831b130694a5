%%% The daemon priv/sockpool_node as a process of its own, on loopback, with an epmd of its own: joined
%%% from a real hidden node (a peer), and spoken to by a handmade one that does what no node does.
%%%
%%% Waits are for the daemon's log lines, its exit, or what comes over a connection.
-module(sockpool_c_node_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(sockpool_handmade_node, [connect/1, join/2, join/3, atom_cache/0, pid_there/1]).
-import(sockpool_handmade_node, [term/1, frame/1, which_pools_frame/1, call_frame/2, send_control/2]).
-import(sockpool_handmade_node, [recv_control/1, recv_message/1, recv_last/1]).

-define(NODE, 'sp@127.0.0.1').
-define(COOKIE, "c_node_suite").
-define(WAIT_MS, 20000).

all() ->
    [ping, calls, atoms, every_kind_of_term, noproc, down_at_sigterm, busy_watcher, links, demonitored_and_unlinked,
     wrong_cookie,
     {group, waiting}, random_bytes, malformed_frames, frames_too_long, malformed_headers, malformed_payload,
     replies_that_nobody_reads,
     one_monitor_for_each_process, epmd_restarts, epmd_comes_later, stdin_is_closed,
     cookies, wrong_options].

%% These wait for limits of the daemon, each of one of its own.
groups() ->
    [{waiting, [parallel], [silent_connections, newer_replaces_older, ticks_are_sent_and_answered, not_reading]}].

init_per_suite(Config) -> sockpool_c_daemon:if_built(fun() -> Config end).

end_per_suite(_Config) -> ok.

init_per_testcase(_Case, Config) ->
    EpmdPort = sockpool_test_port:free(),
    [{epmd_port, EpmdPort}, {epmd, start_epmd(EpmdPort)} | Config].

end_per_testcase(_Case, Config) ->
    stop_epmd(?config(epmd, Config)),
    ok.

%%% A real node.

ping(Config) ->
    Daemon = start_registered(Config),
    Peer = start_peer(Config),
    ?assertEqual(pong, on(Peer, net_adm, ping, [?NODE])),
    ?assertEqual([?NODE], on(Peer, erlang, nodes, [hidden])),
    ?assertEqual([], on(Peer, erlang, nodes, [])),
    stop_peer(Peer),
    ?assertMatch({match, _}, re:run(await_line(Daemon, "event=node_down"), "node=c_node_peer")),
    stop(Daemon).

calls(Config) ->
    Daemon = start_registered(Config),
    Peer = start_peer(Config),
    ?assertEqual([], call(Peer, which_pools)),
    Others = [nonsense, {stats, "p"}, {'$sockpool_lease', a, 1, 2}, #{k => [1.5, <<1:3>>]}, [],
              binary:copy(<<"x">>, 300000)],
    [?assertEqual({error, {bad_request, Other}}, call(Peer, Other)) || Other <- Others],
    %% As gen_server did before aliases: the tag is a reference alone.
    ?assertEqual([], on(Peer, ?MODULE, old_call, [which_pools])),
    stop_peer(Peer),
    stop(Daemon).

%% More of them than a cache holds, and whatever else has atoms in it.
atoms(Config) ->
    Daemon = start_registered(Config),
    Peer = start_peer(Config),
    ?assertEqual(ok, on(Peer, ?MODULE, echoes, [7000, 100])),
    stop_peer(Peer),
    stop(Daemon).

%% The daemon's table of tags is this VM's: of what it gives back, each term ends where the VM says, with a node's
%% numbers for atoms and without. An atom behind it shows that.
every_kind_of_term(Config) ->
    Daemon = start_registered(Config),
    Peer = start_peer(Config),
    ?assertEqual(ok, on(Peer, ?MODULE, echo_each_kind, [])),
    stop_peer(Peer),
    Socket = join(Daemon, "kinds@127.0.0.1"),
    Encoded = [term(Term) || Term <- each_kind()] ++ other_encodings(),
    ?assertEqual([70, 77] ++ lists:seq(88, 90) ++ [97, 98, 100] ++ lists:seq(102, 116) ++ lists:seq(118, 120),
                 lists:usort([Tag || <<Tag, _/binary>> <- Encoded])),
    [begin
         {Term, Used} = binary_to_term(<<131, Bytes/binary>>, [used]),
         ?assertEqual(1 + byte_size(Bytes), Used),
         Request = [<<104, 2>>, Bytes, term(behind_it)],
         ok = gen_tcp:send(Socket, frame([112, 131, term({6, self(), '', sockpool}),
                                          131, 104, 3, term('$gen_call'), term({self(), Tag}), Request])),
         ?assertEqual({{2, '', self()}, {Tag, {error, {bad_request, {Term, behind_it}}}}}, recv_message(Socket))
     end || <<Tag, _/binary>> = Bytes <- Encoded],
    ok = gen_tcp:close(Socket),
    is_well(Config, Daemon).

%% Called in the peer, too.
echo_each_kind() ->
    [?assertEqual({error, {bad_request, {Term, behind_it, Term}}},
                  gen_server:call({sockpool, ?NODE}, {Term, behind_it, Term})) || Term <- each_kind()],
    ok.

each_kind() ->
    Here = self(),
    [0, 255, 256, -1, 1 bsl 31, -(1 bsl 64), 1 bsl 2040, 1.5, ok, binary_to_atom(<<"\x{e9}"/utf8>>),
     binary_to_atom(unicode:characters_to_binary(lists:duplicate(255, 16#e9))), Here, hd(erlang:ports()), make_ref(),
     {}, {a, b}, list_to_tuple(lists:seq(1, 256)), [], "text", [a, b], [a | b],
     <<>>, <<"bytes">>, <<5:3>>, <<1, 2:4>>, #{}, #{a => b, "k" => #{}}, fun lists:map/2,
     fun(X) -> {X, Here} end, fun() -> ok end].

%% Which other versions of the VM send, or nobody does.
other_encodings() ->
    Node = <<119, 3, "a@b">>,
    [<<97, 1>>, <<98, 1:32>>, <<100, 2:16, "ok">>, <<102, Node/binary, 1:32, 1>>, <<103, Node/binary, 1:32, 0:32, 1>>,
     <<88, Node/binary, 1:32, 0:32, 1:32>>, <<89, Node/binary, 1:32, 1:32>>, <<120, Node/binary, 1:64, 1:32>>,
     <<90, 3:16, Node/binary, 1:32, 1:32, 2:32, 3:32>>, <<114, 3:16, Node/binary, 1, 1:32, 2:32, 3:32>>,
     <<115, 2, "ok">>, <<119, 2, "ok">>, <<118, 2:16, "ok">>, <<105, 1:32, 106>>, <<110, 1, 0, 7>>, <<111, 1:32, 1, 7>>,
     <<108, 0:32, 106>>].

noproc(Config) ->
    Daemon = start_registered(Config),
    Peer = start_peer(Config),
    ?assertEqual(noproc, on(Peer, ?MODULE, monitor_reason, [{nobody, ?NODE}])),
    ?assertEqual({'EXIT', {noproc, {gen_server, call, [{nobody, ?NODE}, which_pools]}}},
                 on(Peer, ?MODULE, catch_call, [{nobody, ?NODE}])),
    stop_peer(Peer),
    stop(Daemon).

down_at_sigterm(Config) ->
    Daemon = start_registered(Config),
    Peer = start_peer(Config),
    Watcher = watcher(Peer),
    kill(Daemon, "TERM"),
    ?assertEqual(shutdown, watched(Watcher)),
    ?assertEqual(0, await_exit(Daemon)),
    stop_peer(Peer).

wrong_cookie(Config) ->
    Daemon = start_registered(Config),
    Peer = start_peer(Config),
    true = on(Peer, erlang, set_cookie, [?NODE, wrong]),
    [?assertEqual(false, on(Peer, net_kernel, connect_node, [?NODE])) || _ <- lists:seq(1, 3)],
    true = on(Peer, erlang, set_cookie, [?NODE, list_to_atom(?COOKIE)]),
    ?assertEqual(pong, on(Peer, net_adm, ping, [?NODE])),
    Lines = lines_until(Daemon, "event=node_up"),
    Refusals = [Line || Line <- Lines, string:find(Line, "event=refused") =/= nomatch],
    ?assertMatch([_], Refusals),
    ?assertMatch({match, _}, re:run(hd(Refusals), "node=c_node_peer.* reason=\"wrong cookie\"")),
    ?assertEqual([], [Line || Line <- Lines, string:find(Line, ?COOKIE) =/= nomatch]),
    stop_peer(Peer),
    stop(Daemon).

silent_connections(Config) ->
    Daemon = start_registered(Config),
    %% Its start may take as long as the silent ones have.
    Peer = start_peer(Config),
    Silent = [connect(Daemon) || _ <- lists:seq(1, 1000)],
    ?assertEqual(pong, on(Peer, net_adm, ping, [?NODE])),
    [?assertEqual({error, timeout}, gen_tcp:recv(Socket, 0, 0)) || Socket <- Silent],
    %% They end by the handshake's limit.
    [?assertEqual({error, closed}, gen_tcp:recv(Socket, 0, ?WAIT_MS)) || Socket <- Silent],
    stop_peer(Peer),
    stop(Daemon).

epmd_restarts(Config) ->
    Daemon = start_registered(Config),
    stop_epmd(?config(epmd, Config)),
    _ = await_line(Daemon, "event=not_registered"),
    Epmd = start_epmd(?config(epmd_port, Config)),
    _ = await_line(Daemon, "event=registered"),
    Peer = start_peer(Config),
    ?assertEqual(pong, on(Peer, net_adm, ping, [?NODE])),
    stop_peer(Peer),
    stop(Daemon),
    stop_epmd(Epmd).

epmd_comes_later(Config) ->
    stop_epmd(?config(epmd, Config)),
    Daemon = start(Config, []),
    _ = await_line(Daemon, "event=not_registered"),
    Epmd = start_epmd(?config(epmd_port, Config)),
    _ = await_line(Daemon, "event=registered"),
    stop(Daemon),
    stop_epmd(Epmd).

stdin_is_closed(Config) ->
    Daemon = start_registered(Config),
    Peer = start_peer(Config),
    Watcher = watcher(Peer),
    true = port_close(port(Daemon)),
    ?assertEqual(shutdown, watched(Watcher)),
    stop_peer(Peer).

%%% A handmade node.

random_bytes(Config) ->
    Daemon = start_registered(Config),
    [begin
         Socket = connect(Daemon),
         _ = gen_tcp:send(Socket, [<<1023:16>>, rand:bytes(1023 + rand:uniform(1000))]),
         ?assertMatch({error, _}, gen_tcp:recv(Socket, 0, ?WAIT_MS))
     end || _ <- lists:seq(1, 100)],
    is_well(Config, Daemon).

malformed_frames(Config) ->
    Daemon = start_registered(Config),
    Control = fun(Bytes) -> frame([112, 131, Bytes]) end,
    Bad = [frame(<<0>>), frame(<<131, 68, 0>>),                   % not passed through
           frame(<<112>>), Control([]),
           Control(binary:copy(<<104, 1>>, 100000)),              % nested tuples
           Control(<<108, 16#ffffffff:32>>),                      % huge claims
           Control(<<104, 200>>),
           Control(term(not_a_tuple)),
           Control(term({})),
           Control(term({19, 1, sockpool, make_ref()})),          % no pid
           Control(term({19, self(), sockpool, 1})),
           Control(term({1, self(), sockpool})),
           Control(term({19, self(), sockpool}))],                % an element too few
    [begin
         Socket = join(Daemon, "evil@127.0.0.1"),
         ok = gen_tcp:send(Socket, Bytes),
         ?assertMatch({error, _}, recv_last(Socket))
     end || Bytes <- Bad],
    is_well(Config, Daemon).

%% One is read past, whoever asked is told, and the connection goes on.
frames_too_long(Config) ->
    Daemon = start_registered(Config),
    Socket = join(Daemon, "long@127.0.0.1"),
    To = term({6, self(), '', sockpool}),
    [begin
         Head = iolist_to_binary([112, 131, To, 131, 104, 3, term('$gen_call'), term({self(), N})]),
         ok = gen_tcp:send(Socket, [<<Bytes:32>>, Head, <<109, (Bytes - byte_size(Head) - 5):32>>]),
         ok = send_zeros(Socket, Bytes - byte_size(Head) - 5),
         ?assertEqual({{2, '', self()}, {N, {error, emsgsize}}}, recv_message(Socket))
     end || {N, Bytes} <- [{1, 64 bsl 20 + 65537}, {2, 300 bsl 20}]],
    %% Of what is whole and cannot be understood, that is told.
    ok = gen_tcp:send(Socket, frame([112, 131, To, 131, 104, 3, term('$gen_call'), term({self(), 3}), <<104, 9>>])),
    ?assertEqual({{2, '', self()}, {3, {error, {bad_request, undefined}}}}, recv_message(Socket)),
    ok = gen_tcp:send(Socket, which_pools_frame(4)),
    ?assertEqual({{2, '', self()}, {4, []}}, recv_message(Socket)),
    ok = gen_tcp:close(Socket),
    is_well(Config, Daemon).

send_zeros(_Socket, 0) -> ok;
send_zeros(Socket, Left) ->
    Len = min(Left, 1 bsl 20),
    ok = gen_tcp:send(Socket, <<0:(8 * Len)>>),
    send_zeros(Socket, Left - Len).

%% Of one that said in its handshake that its frames have headers for atoms.
malformed_headers(Config) ->
    Daemon = start_registered(Config),
    Join = fun() -> join(Daemon, "cached@127.0.0.1", atom_cache()) end,
    Known = <<131, 68, 1, 8, 5, 3, "abc">>,
    [begin
         Socket = Join(),
         ok = gen_tcp:send(Socket, frame(Bytes)),
         ?assertMatch({error, _}, recv_last(Socket))
     end || Bytes <- [<<131>>, <<131, 68>>, <<131, 68, 1>>, <<131, 68, 255, 0:1024>>,
                      <<131, 69, 0>>,                    % a fragment
                      <<131, 68, 1, 0, 5, "R", 0>>,      % an atom that was never told
                      <<131, 68, 1, 16#18, 5, 16#ffff:16, 0:8000>>,
                      [Known, "R", 1],
                      [Known, 104, 200, "R", 0],
                      [112, 131, term({6, self(), '', sockpool}), 131, term(x)]]],
    %% An atom told in a frame whose payload is dropped is known all the same.
    Socket = Join(),
    To = term({6, self(), '', sockpool}),
    ok = gen_tcp:send(Socket, frame([131, 68, 1, 8, 5, 9, "$gen_call", To, 104, 9])),
    ok = gen_tcp:send(Socket, frame([131, 68, 1, 0, 5, To, 104, 3, "R", 0,
                                     [104, 2, term(self()), "R", 0], term(which_pools)])),
    {ok, <<Len:32>>} = gen_tcp:recv(Socket, 4, ?WAIT_MS),
    {ok, <<131, 68, Atoms, Reply/binary>>} = gen_tcp:recv(Socket, Len, ?WAIT_MS),
    {Told, Before} = lists:splitwith(fun(Atom) -> Atom =/= <<"$gen_call">> end, told_atoms(Atoms, Reply)),
    ?assertMatch([_ | _], Before),
    ?assertEqual(<<104, 2, "R", (length(Told)), 106>>, binary_part(Reply, byte_size(Reply), -5)),
    ok = gen_tcp:close(Socket),
    is_well(Config, Daemon).

%% Of a frame's header, where all are new: behind half a byte of flags for each, and half a byte more. How
%% many there are depends on how OTP writes the node's name in a pid.
told_atoms(Count, Header) ->
    Flags = Count div 2 + 1,
    <<_:Flags/binary, Texts/binary>> = Header,
    told_texts(Count, Texts).

told_texts(0, _) -> [];
told_texts(Count, <<_Slot, Len, Text:Len/binary, Rest/binary>>) -> [Text | told_texts(Count - 1, Rest)].

%% The stream is sound, so the connection stays; what cannot be understood has no answer.
malformed_payload(Config) ->
    Daemon = start_registered(Config),
    Socket = join(Daemon, "odd@127.0.0.1"),
    To = term({6, self(), '', sockpool}),
    [ok = gen_tcp:send(Socket, frame([112, 131, To, Payload]))
     || Payload <- [<<>>, <<131>>, <<0>>, <<131, 104, 9>>, [131, term(a), 0],
                    [131, binary:copy(<<104, 1>>, 1000), term(a)],
                    [131, term(hello)], [131, term({'$gen_call', self(), x})],
                    [131, term({'$gen_call', {1, 2}, x})], [131, term({'$gen_cast', x})]]],
    ok = gen_tcp:send(Socket, frame([112, 131, term({77, self(), x})])),
    ok = gen_tcp:send(Socket, frame([112, 131, To, 131, term({'$gen_call', {self(), tag}, which_pools})])),
    ?assertEqual({{2, '', self()}, {tag, []}}, recv_message(Socket)),
    ok = gen_tcp:close(Socket),
    is_well(Config, Daemon).

newer_replaces_older(Config) ->
    Daemon = start_registered(Config),
    Older = join(Daemon, "twice@127.0.0.1"),
    Other = join(Daemon, "other@127.0.0.1"),
    Newer = join(Daemon, "twice@127.0.0.1"),
    ?assertEqual({error, closed}, gen_tcp:recv(Older, 0, ?WAIT_MS)),
    [begin
         ok = gen_tcp:send(Socket, which_pools_frame(1)),
         ?assertMatch({_, {1, []}}, recv_message(Socket))
     end || Socket <- [Other, Newer]],
    %% As it ends it waits a second for these, which do not end theirs.
    is_well(Config, Daemon).

ticks_are_sent_and_answered(Config) ->
    Daemon = start_registered(Config),
    Socket = join(Daemon, "ticks@127.0.0.1"),
    ok = gen_tcp:send(Socket, <<0:32>>),
    ?assertEqual({ok, <<0:32>>}, gen_tcp:recv(Socket, 4, ?WAIT_MS)),
    ok = gen_tcp:close(Socket),
    stop(Daemon),
    Quick = start_registered(Config, ["--tick-time", "1"]),
    Silent = join(Quick, "silent@127.0.0.1"),
    %% In the first period the handshake was written, at the end of the fourth the node is gone.
    [?assertEqual({ok, <<0:32>>}, gen_tcp:recv(Silent, 4, ?WAIT_MS)) || _ <- lists:seq(1, 2)],
    ?assertEqual({error, closed}, gen_tcp:recv(Silent, 4, ?WAIT_MS)),
    Line = await_line(Quick, "event=node_down"),
    ?assertMatch({match, _}, re:run(Line, "node=silent@.* reason=\"silent for the tick time\"")),
    stop(Quick).

%% A node that does not read its answers is not read from either; others do not notice. Once it
%% reads, it gets every answer, in order.
not_reading(Config) ->
    Daemon = start_registered(Config),
    Socket = join(Daemon, "full@127.0.0.1"),
    ok = inet:setopts(Socket, [{send_timeout, 1000}]),
    Blob = binary:copy(<<"b">>, 100000),
    Sent = send_until_full(Socket, Blob, 0),
    ?assert(Sent > 10),
    is_alive(Config),
    [?assertMatch({_, {N, {error, {bad_request, Blob}}}}, recv_message(Socket))
     || N <- lists:seq(1, Sent)],
    ok = gen_tcp:close(Socket),
    is_well(Config, Daemon).

%% 300 MB of replies: what the node does not read is left with the pool's server, and read by the node
%% later, all of it.
replies_that_nobody_reads(Config) ->
    Daemon = start_registered(Config),
    Reply = binary:copy(<<"r">>, 1024 * 1024),
    Server = sockpool_test_server:start({reply, fun(_) -> Reply end}),
    %% Overflow would be closed after a while, as nobody needs it any more.
    Pool = #{host => {127, 0, 0, 1}, port => sockpool_test_server:port(Server), size => 50, max_overflow => 0},
    Socket = join(Daemon, "full@127.0.0.1"),
    ok = gen_tcp:send(Socket, call_frame(0, {start_pool, p, Pool})),
    ?assertEqual({{2, '', self()}, {0, ok}}, recv_message(Socket)),
    Numbers = lists:seq(1, 300),
    ok = gen_tcp:send(Socket, [call_frame(N, {request, make_ref(), p, <<"x">>, byte_size(Reply), infinity})
                               || N <- Numbers]),
    Peer = start_peer(Config),
    Stats = fun() -> {ok, Map} = call(Peer, {stats, p}), Map end,
    sockpool_test_util:wait_until(
      fun() -> #{leased := Leased, waiting := Waiting} = Stats(), Leased + Waiting > 200 end),
    Last = lists:last([Stats() || _ <- lists:seq(1, 1000)]),
    ?assertMatch(#{waiting := Waiting} when Waiting > 100, Last),
    ?assert(sockpool_c_daemon:memory_kb(Daemon) < 150 * 1024),
    ?assertEqual(Numbers, lists:sort([reply_number(Socket, Reply) || _ <- Numbers])),
    ?assertMatch(#{leased := 0, checkins := 300, closed := 0}, Stats()),
    ok = gen_tcp:close(Socket),
    stop_peer(Peer),
    stop(Daemon).

reply_number(Socket, Reply) ->
    case recv_message(Socket) of
        {_, {N, {ok, Reply}}} -> N;
        {{19, _, _, _}, none} -> reply_number(Socket, Reply)
    end.

%% What goes over the wire: one monitor, however much a process has; its end, and only that, gives back
%% what it has.
one_monitor_for_each_process(Config) ->
    Daemon = start_registered(Config),
    Server = sockpool_test_server:start(),
    Socket = join(Daemon, "watched@127.0.0.1"),
    Ours = pid_there(1),
    Call = fun(Request) ->
                   ok = gen_tcp:send(Socket, call_frame(1, Request)),
                   {_, {1, Result}} = recv_message(Socket),
                   Result
           end,
    Stats = fun() -> {ok, #{leased := Leased, closed := Closed}} = Call({stats, p}), {Leased, Closed} end,
    ok = Call({start_pool, p, #{host => {127, 0, 0, 1}, port => sockpool_test_server:port(Server),
                                size => 3}}),
    sockpool_test_util:wait_until(fun() -> {ok, #{idle := Idle}} = Call({stats, p}), Idle =:= 3 end),
    ok = gen_tcp:send(Socket, call_frame(2, {checkout, make_ref(), p, 1000})),
    {19, Ours, Watched, Ref} = recv_control(Socket),
    ?assertEqual(self(), Watched),
    {_, {2, {ok, Lease}}} = recv_message(Socket),
    {ok, Other} = Call({checkout, make_ref(), p, 1000}),
    ?assertEqual({2, 0}, Stats()),
    %% Of somebody else, or of a monitor that is none.
    [ok = send_control(Socket, {21, From, Ours, Wrong, killed})
     || {From, Wrong} <- [{self(), make_ref()}, {pid_there(2), Ref}, {sockpool, Ref}]],
    ?assertEqual({2, 0}, Stats()),
    ok = Call({checkin, Lease}),
    ok = Call({checkin, Other}),
    %% It is still watched.
    {ok, Third} = Call({checkout, make_ref(), p, 1000}),
    ok = Call({send, Third, <<"x">>, 1000}),
    ok = send_control(Socket, {21, self(), Ours, Ref, killed}),
    ?assertEqual({0, 1}, Stats()),
    ?assertEqual({error, closed}, Call({checkin, Third})),
    %% The next one is a new process to it.
    ok = gen_tcp:send(Socket, call_frame(2, {checkout, make_ref(), p, 1000})),
    {19, Ours, Watched, Again} = recv_control(Socket),
    ?assertNotEqual(Ref, Again),
    {_, {2, {ok, _}}} = recv_message(Socket),
    ok = send_control(Socket, {21, self(), Ours, Ref, killed}),
    ?assertEqual({1, 1}, Stats()),
    ok = gen_tcp:close(Socket),
    Peer = start_peer(Config),
    sockpool_test_util:wait_until(
      fun() -> {ok, #{leased := Leased}} = call(Peer, {stats, p}), Leased =:= 0 end),
    stop_peer(Peer),
    stop(Daemon).

send_until_full(Socket, Blob, Sent) ->
    case gen_tcp:send(Socket, call_frame(Sent + 1, Blob)) of
        ok -> send_until_full(Socket, Blob, Sent + 1);
        {error, timeout} -> Sent
    end.

links(Config) ->
    Daemon = start_registered(Config),
    Socket = join(Daemon, "links@127.0.0.1"),
    Theirs = pid_there(1),
    Nobody = pid_there(2),
    ok = send_control(Socket, {1, self(), Nobody}),
    ?assertEqual({3, Nobody, self(), noproc}, recv_control(Socket)),
    ok = send_control(Socket, {1, self(), Theirs}),
    ok = send_control(Socket, {19, self(), Theirs, Ref = make_ref()}),
    ok = gen_tcp:send(Socket, which_pools_frame(1)),
    ?assertMatch({_, {1, []}}, recv_message(Socket)),
    kill(Daemon, "TERM"),
    ?assertEqual(lists:sort([{3, Theirs, self(), shutdown}, {21, Theirs, self(), Ref, shutdown}]),
                 lists:sort([recv_control(Socket), recv_control(Socket)])),
    ?assertEqual({error, closed}, gen_tcp:recv(Socket, 0, ?WAIT_MS)),
    ok = gen_tcp:close(Socket),
    ?assertEqual(0, await_exit(Daemon)).

demonitored_and_unlinked(Config) ->
    Daemon = start_registered(Config),
    Socket = join(Daemon, "links@127.0.0.1"),
    Theirs = pid_there(1),
    Ref = make_ref(),
    [ok = send_control(Socket, Control)
     || Control <- [{1, self(), Theirs}, {19, self(), sockpool, Ref},
                    {20, self(), sockpool, Ref}, {35, 4711, self(), Theirs}]],
    ?assertEqual({36, 4711, Theirs, self()}, recv_control(Socket)),
    kill(Daemon, "TERM"),
    ?assertEqual({error, closed}, gen_tcp:recv(Socket, 0, ?WAIT_MS)),
    ok = gen_tcp:close(Socket),
    ?assertEqual(0, await_exit(Daemon)).

%% One that goes on sending meanwhile, and reads later: what it sends in vain does not cost it what it is
%% told.
busy_watcher(Config) ->
    Daemon = start_registered(Config),
    Socket = join(Daemon, "busy@127.0.0.1"),
    Refs = [make_ref() || _ <- lists:seq(1, 400)],
    [ok = send_control(Socket, {19, self(), sockpool, Ref}) || Ref <- Refs],
    ok = gen_tcp:send(Socket, which_pools_frame(1)),
    ?assertMatch({_, {1, []}}, recv_message(Socket)),
    %% Nobody answers that.
    Message = frame([112, 131, term({6, self(), '', sockpool}), 131, term(binary:copy(<<"b">>, 50000))]),
    Sent = counters:new(1, []),
    {Sender, Ending} = spawn_monitor(fun() -> send_until_closed(Socket, Message, Sent) end),
    kill(Daemon, "TERM"),
    _ = await_line(Daemon, "event=ending"),
    Before = counters:get(Sent, 1),
    sockpool_test_util:wait_until(
      fun() -> counters:get(Sent, 1) > Before + 100 orelse not is_process_alive(Sender) end),
    ?assertEqual(lists:sort(Refs), lists:sort(downs(Socket))),
    ok = gen_tcp:close(Socket),
    receive {'DOWN', Ending, process, Sender, normal} -> ok end,
    ?assertEqual(0, await_exit(Daemon)).

send_until_closed(Socket, Message, Sent) ->
    case gen_tcp:send(Socket, Message) of
        ok -> counters:add(Sent, 1, 1), send_until_closed(Socket, Message, Sent);
        {error, _} -> ok
    end.

%% Those of a monitor, until the end.
downs(Socket) ->
    case gen_tcp:recv(Socket, 4, ?WAIT_MS) of
        {ok, <<Len:32>>} ->
            {ok, <<112, Bytes:(Len - 1)/binary>>} = gen_tcp:recv(Socket, Len, ?WAIT_MS),
            case binary_to_term(Bytes) of
                {21, _, _, Ref, shutdown} -> [Ref | downs(Socket)];
                _ -> downs(Socket)
            end;
        {error, closed} ->
            []
    end.

%%% The command line.

cookies(Config) ->
    File = filename:join(?config(priv_dir, Config), "cookie"),
    ok = file:write_file(File, ?COOKIE "\n"),
    ok = file:change_mode(File, 8#644),
    Open = start(Config, ["--cookie-file", File]),
    ?assertMatch({match, _}, re:run(await_line(Open, "sockpool_node:"), "owner only")),
    ?assertEqual(2, await_exit(Open)),
    ok = file:change_mode(File, 8#600),
    FromFile = start_registered(Config, ["--cookie-file", File], []),
    is_well(Config, FromFile),
    FromInput = start(Config, ["--cookie-stdin"], []),
    true = port_command(port(FromInput), ?COOKIE "\n"),
    _ = await_line(FromInput, "event=registered"),
    is_well(Config, FromInput),
    None = start(Config, [], []),
    ?assertMatch({match, _}, re:run(await_line(None, "sockpool_node:"), "SOCKPOOL_COOKIE")),
    ?assertEqual(2, await_exit(None)).

wrong_options(Config) ->
    [begin
         Daemon = start(Config, Args),
         ?assertMatch({match, _}, re:run(await_line(Daemon, "sockpool_node:"), Word), Args),
         ?assertEqual(2, await_exit(Daemon), Args)
     end || {Args, Word} <- [{["--name", "nohost"], "--name nohost"},
                             {["--tick-time", "0"], "--tick-time 0"},
                             {["--tick-time", "1x"], "--tick-time 1x"},
                             {["--listen", "no.address"], "--listen no.address"},
                             {["--secret", "c"], "unrecognized option '--secret'"},
                             {["word"], "argument word"}]],
    Unbound = start(Config, ["--listen", "192.0.2.1"]),
    _ = await_line(Unbound, "sockpool_node: cannot start"),
    ?assertEqual(1, await_exit(Unbound)).

%%% The daemon.

start_registered(Config) -> start_registered(Config, []).

start_registered(Config, Args) -> start_registered(Config, Args, [{"SOCKPOOL_COOKIE", ?COOKIE}]).

start_registered(Config, Args, Env) ->
    Daemon = start(Config, Args, Env),
    Listening = await_line(Daemon, "event=listening"),
    _ = await_line(Daemon, "event=registered"),
    {match, [Port]} = re:run(Listening, "port=(\\d+)", [{capture, all_but_first, list}]),
    Daemon#{listens => list_to_integer(Port), name => ?NODE, cookie => ?COOKIE}.

start(Config, Args) -> start(Config, Args, [{"SOCKPOOL_COOKIE", ?COOKIE}]).

start(Config, Args, Env) ->
    Port = open_port({spawn_executable, sockpool_c_daemon:program()},
                     [{args, ["--name", atom_to_list(?NODE), "--port" | Args]},
                      {env, [{"ERL_EPMD_PORT", integer_to_list(?config(epmd_port, Config))} | Env]},
                      {line, 4096}, stderr_to_stdout, exit_status]),
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    #{port => Port, os_pid => Pid}.

port(#{port := Port}) -> Port.

kill(#{os_pid := Pid}, Signal) ->
    "" = os:cmd("kill -" ++ Signal ++ " " ++ integer_to_list(Pid)).

stop(Daemon) ->
    kill(Daemon, "TERM"),
    ?assertEqual(0, await_exit(Daemon)).

await_line(Daemon, Part) -> lists:last(lines_until(Daemon, Part)).

lines_until(#{port := Port} = Daemon, Part) ->
    receive
        {Port, {data, {eol, Line}}} ->
            case string:find(Line, Part) of
                nomatch -> [Line | lines_until(Daemon, Part)];
                _ -> [Line]
            end;
        {Port, {exit_status, Status}} ->
            error({ended, Status, Part})
    after ?WAIT_MS -> error({no_line, Part})
    end.

await_exit(#{port := Port} = Daemon) ->
    receive
        {Port, {exit_status, Status}} -> Status;
        {Port, {data, _}} -> await_exit(Daemon)
    after ?WAIT_MS -> error(no_exit)
    end.

is_alive(Config) ->
    Peer = start_peer(Config),
    ?assertEqual(pong, on(Peer, net_adm, ping, [?NODE])),
    ?assertEqual([], call(Peer, which_pools)),
    stop_peer(Peer).

is_well(Config, Daemon) ->
    is_alive(Config),
    stop(Daemon).

%%% epmd, in the foreground so that it is ours.

start_epmd(EpmdPort) ->
    Port = open_port({spawn_executable, os:find_executable("epmd")},
                     [{args, ["-port", integer_to_list(EpmdPort)]}, stderr_to_stdout, exit_status]),
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    sockpool_test_util:wait_until(fun() -> answers(EpmdPort) end),
    #{port => Port, os_pid => Pid}.

answers(EpmdPort) ->
    case gen_tcp:connect({127, 0, 0, 1}, EpmdPort, []) of
        {ok, Socket} -> gen_tcp:close(Socket) =:= ok;
        {error, econnrefused} -> false
    end.

%% Again is no mistake: a test may have stopped it.
stop_epmd(#{port := Port} = Epmd) ->
    case erlang:port_info(Port) of
        undefined -> ok;
        _ -> kill(Epmd, "KILL"), _ = await_exit(Epmd), ok
    end.

%%% The peer and what runs there.

start_peer(Config) ->
    {ok, Peer, _Node} =
        peer:start_link(#{name => peer:random_name(c_node_peer), host => "127.0.0.1",
                          longnames => true, connection => standard_io, wait_boot => 60000,
                          args => ["-hidden", "-setcookie", ?COOKIE,
                                   "-pa", filename:dirname(code:which(?MODULE))],
                          env => [{"ERL_EPMD_PORT", integer_to_list(?config(epmd_port, Config))}]}),
    Peer.

stop_peer(Peer) -> peer:stop(Peer).

on(Peer, Module, Function, Args) -> peer:call(Peer, Module, Function, Args, ?WAIT_MS).

call(Peer, Request) -> on(Peer, gen_server, call, [{sockpool, ?NODE}, Request]).

catch_call(Name) -> catch gen_server:call(Name, which_pools).

old_call(Request) ->
    Ref = make_ref(),
    {sockpool, ?NODE} ! {'$gen_call', {self(), Ref}, Request},
    receive {Ref, Reply} -> Reply end.

%% Called in the peer. The daemon gives back what it does not understand.
echoes(AtomCount, Rounds) ->
    Atoms = list_to_tuple([list_to_atom("atom" ++ integer_to_list(N)) || N <- lists:seq(1, AtomCount)]),
    Any = fun() -> element(rand:uniform(AtomCount), Atoms) end,
    Long = binary_to_atom(unicode:characters_to_binary(lists:duplicate(255, 16#1f525))),
    [begin
         Here = Any(),
         Funs = [fun(X) -> {X, Here, Any()} end, fun lists:map/2, fun Here:Here/3],
         Term = {[Any() || _ <- lists:seq(1, rand:uniform(400))], Funs, self(), make_ref(),
                 #{Any() => <<"R", 0, "R", 1>>, Long => [Any() | Any()]}, '', true,
                 fun() -> {Funs, self()} end},
         ?assertEqual({error, {bad_request, Term}}, gen_server:call({sockpool, ?NODE}, Term))
     end || _ <- lists:seq(1, Rounds)],
    ok.

monitor_reason(Target) ->
    Ref = monitor(process, Target),
    receive {'DOWN', Ref, process, Target, Reason} -> Reason end.

%% Monitors sockpool there; the monitor is in place when this returns.
watcher(Peer) ->
    Watcher = peer:call(Peer, erlang, spawn, [?MODULE, watch, []]),
    [] = on(Peer, ?MODULE, ask, [Watcher]),
    {Peer, Watcher}.

watched({Peer, Watcher}) -> on(Peer, ?MODULE, ask, [Watcher]).

watch() ->
    Ref = monitor(process, {sockpool, ?NODE}),
    receive {ask, From} -> From ! {self(), call_after_monitor()} end,
    receive {'DOWN', Ref, process, {sockpool, ?NODE}, Reason} ->
            receive {ask, Again} -> Again ! {self(), Reason} end
    end.

%% What the daemon answers now comes after it has taken the monitor.
call_after_monitor() -> gen_server:call({sockpool, ?NODE}, which_pools).

ask(Pid) ->
    Pid ! {ask, self()},
    receive {Pid, Answer} -> Answer end.
