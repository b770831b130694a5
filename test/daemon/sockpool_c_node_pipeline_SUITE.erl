%%% Many requests on one connection of the daemon priv/sockpool_node, where it is not as in a VM: whose they are, and what
%%% becomes of them when a node goes, does not read, or the daemon ends. What is the same is in sockpool_pipeline_SUITE.
-module(sockpool_c_node_pipeline_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([one_write_for_a_turn/1, nodes_share_a_connection/1, a_node_goes/1, a_node_does_not_read/1, requests_that_are_kept/1,
         cancelled/1, suspended_for_long/1, drained_at_sigterm/1, of_a_file/1, the_daemon_is_killed/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, stats/1]).
-import(sockpool_cluster, [client/1, run/2, begin_run/2, result/1]).

-define(WAIT_MS, 60000).
-define(MB, (1024 * 1024)).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [one_write_for_a_turn, nodes_share_a_connection, a_node_goes, a_node_does_not_read, requests_that_are_kept, cancelled,
     suspended_for_long, drained_at_sigterm, of_a_file, the_daemon_is_killed].

init_per_suite(Config) -> sockpool_c_daemon:if_built(fun() -> sockpool_remote_kit:init_suite(Config) end).

end_per_suite(Config) -> sockpool_remote_kit:end_suite(Config).

init_per_testcase(Case, Config) ->
    {Server, Port} = server(),
    #{node := Node} = Daemon = sockpool_c_daemon:start(options(Case, Port, Config)),
    ok = wait_until(fun() -> sockpool:which_pools(Node) =/= {error, {nodedown, Node}} end),
    [{daemon, Daemon}, {node, Node}, {pool, {Case, Node}}, {server, Server}, {port, Port},
     {other_node, maps:get(node, ?config(other, Config))} | Config].

options(of_a_file, Port, Config) ->
    File = filename:join(?config(priv_dir, Config), "pipeline.json"),
    ok = file:write_file(File, io_lib:format("{\"pools\": {\"of_a_file\": {\"host\": \"127.0.0.1\", \"port\": ~b, \"packet\": 4, "
                                             "\"size\": 1, \"max_overflow\": 0, \"pipeline\": 8, \"pipeline_bytes\": 1000, "
                                             "\"pipeline_stall\": \"infinity\"}}}", [Port])),
    #{args => ["--config", File]};
options(_Case, _Port, _Config) ->
    #{}.

end_per_testcase(Case, Config) when Case =:= drained_at_sigterm; Case =:= the_daemon_is_killed ->
    ?config(server, Config) ! stop;
end_per_testcase(_Case, Config) ->
    0 = sockpool_c_daemon:stop(?config(daemon, Config)),
    ?config(server, Config) ! stop.

%%% The server echoes messages of four bytes of length, but keeps back those that begin with "later", and what comes
%%% behind them on that connection, until it is told to go on; to "large" it answers with 1 MB.

server() ->
    Self = self(),
    Server = spawn(fun() -> listen(Self) end),
    receive {Server, Port} -> {Server, Port} end.

listen(Parent) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}, {backlog, 128}]),
    {ok, Port} = inet:port(Listener),
    Parent ! {self(), Port},
    Server = self(),
    _ = spawn_link(fun() -> accept(Listener, Server) end),
    serve([], []).

accept(Listener, Server) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Pid = spawn_link(fun() -> receive go -> take(Server, Socket, <<>>) end end),
    ok = gen_tcp:controlling_process(Socket, Pid),
    Server ! {connected, Pid},
    Pid ! go,
    accept(Listener, Server).

%% Who is connected, and how many bytes each receive brought.
serve(Connected, Sizes) ->
    receive
        {connected, Pid} -> serve([Pid | Connected], Sizes);
        {bytes, Size} -> serve(Connected, [Size | Sizes]);
        {sizes, From} -> From ! {sizes, lists:reverse(Sizes)}, serve(Connected, Sizes);
        go_on -> _ = [Pid ! go_on || Pid <- Connected], serve(Connected, Sizes);
        stop -> exit(shutdown)
    end.

take(Server, Socket, Before) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Bytes} ->
            Server ! {bytes, byte_size(Bytes)},
            take(Server, Socket, answer(Socket, whole(Socket, <<Before/binary, Bytes/binary>>)));
        {error, _} ->
            ok
    end.

%% The rest of a long one.
whole(Socket, <<Len:32, Part/binary>> = Bytes) when byte_size(Part) < Len, Len > 65536 ->
    {ok, Rest} = gen_tcp:recv(Socket, Len - byte_size(Part)),
    <<Bytes/binary, Rest/binary>>;
whole(_Socket, Bytes) ->
    Bytes.

answer(Socket, <<Len:32, Message:Len/binary, Rest/binary>>) ->
    case Message of
        <<"later", _/binary>> -> receive go_on -> ok end;
        _ -> ok
    end,
    _ = gen_tcp:send(Socket, framed(case Message of <<"large", _/binary>> -> large(Message); _ -> Message end)),
    answer(Socket, Rest);
answer(_Socket, Part) ->
    Part.

framed(Message) -> <<(byte_size(Message)):32, Message/binary>>.

large(Message) -> <<Message/binary, (binary:copy(<<"l">>, ?MB))/binary>>.

sizes(Config) ->
    ?config(server, Config) ! {sizes, self()},
    receive {sizes, Sizes} -> Sizes end.

go_on(Config) -> ?config(server, Config) ! go_on.

%%% Pools and callers.

started(Config, Opts) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, maps:merge(#{host => {127, 0, 0, 1}, port => ?config(port, Config), packet => 4, size => 1,
                                                max_overflow => 0, pipeline => 64, backoff => {1, 20}}, Opts)),
    _ = settled(Pool),
    Pool.

ask(Pool, Data) -> sockpool:request(Pool, Data, packet, ?WAIT_MS).

asking(Pool, Data) ->
    Self = self(),
    spawn_link(fun() -> Self ! {self(), ask(Pool, Data)} end).

answer(Pid) -> receive {Pid, Answer} -> Answer after ?WAIT_MS -> error(no_answer) end.

pipelined(Pool, Count) -> wait_until(fun() -> stat(Pool, pipelined) =:= Count orelse stat(Pool, pipelined) end).

nothing_leased(Pool) ->
    ok = wait_until(fun() -> maps:with([leased, waiting], stats(Pool)) =:= #{leased => 0, waiting => 0} end).

%%% Cases.

%% What has come while the daemon stood still it reads in one turn.
one_write_for_a_turn(Config) ->
    Pool = started(Config, #{}),
    Daemon = ?config(daemon, Config),
    {ok, <<"first">>} = ask(Pool, <<"first">>),
    ok = sockpool_c_daemon:suspend(Daemon),
    Numbers = lists:seq(1, 40),
    Asking = [asking(Pool, <<N:64>>) || N <- Numbers],
    ok = wait_until(fun() -> lists:all(fun is_waiting/1, Asking) end),
    ok = sockpool_c_daemon:resume(Daemon),
    [?assertEqual({ok, <<N:64>>}, answer(Pid)) || {N, Pid} <- lists:zip(Numbers, Asking)],
    [9 | Sizes] = sizes(Config),
    ?assertEqual(40 * 12, lists:sum(Sizes)),
    ct:pal("~w", [Sizes]),
    ?assert(length(Sizes) =< 4),
    ?assertMatch(#{pipelined := 41, closed := 0}, stats(Pool)).

is_waiting(Pid) -> process_info(Pid, current_function) =:= {current_function, {sockpool_wait, wait_on, 2}}.

nodes_share_a_connection(Config) ->
    Pool = started(Config, #{}),
    Clients = [client(Node) || Node <- [node(), ?config(other_node, Config), node(), ?config(other_node, Config)]],
    Asked = [{begin_run(Client, fun() -> ask(Pool, <<"later", N>>) end), N} || {N, Client} <- lists:enumerate(Clients)],
    ok = pipelined(Pool, 4),
    ?assertMatch(#{total := 1, leased := 1, waiting := 0, checkouts := 1}, stats(Pool)),
    [go_on(Config) || _ <- Asked],
    [?assertEqual({ok, <<"later", N>>}, result(Ref)) || {Ref, N} <- Asked],
    nothing_leased(Pool),
    ?assertMatch(#{checkouts := 1, checkins := 1, closed := 0}, stats(Pool)).

%% The replies to those who are gone are dropped, those behind them are not harmed.
a_node_goes(Config) ->
    Pool = {_, Node} = started(Config, #{}),
    There = client(Other = ?config(other_node, Config)),
    Asked = [begin_run(client(Other), fun() -> ask(Pool, <<"later", N>>) end) || N <- lists:seq(1, 3)],
    ok = pipelined(Pool, 3),
    Here = [asking(Pool, <<"here", N>>) || N <- lists:seq(1, 10)],
    ok = pipelined(Pool, 13),
    true = run(There, fun() -> erlang:disconnect_node(Node) end),
    [?assertEqual({error, {nodedown, Node}}, result(Ref)) || Ref <- Asked],
    [go_on(Config) || _ <- Asked],
    [?assertEqual({ok, <<"here", N>>}, answer(Pid)) || {N, Pid} <- lists:zip(lists:seq(1, 10), Here)],
    ?assertEqual({ok, <<"again">>}, run(There, fun() -> ask(Pool, <<"again">>) end)),
    nothing_leased(Pool),
    ?assertMatch(#{checkouts := 2, closed := 0, pipelined := 14}, stats(Pool)).

%% Others on its connection notice nothing; what it may have kept, it gets when it reads.
a_node_does_not_read(Config) ->
    Pool = {Name, _} = started(Config, #{pipeline => 512, pipeline_stall => infinity}),
    Socket = sockpool_handmade_node:join(handmade(Config), "full@127.0.0.1"),
    Numbers = lists:seq(1, 200),
    Holds = asking(Pool, <<"later">>),
    ok = pipelined(Pool, 1),
    ok = gen_tcp:send(Socket, [large_request(Name, N) || N <- Numbers]),
    ok = pipelined(Pool, 201),
    Behind = [asking(Pool, <<"behind", N>>) || N <- lists:seq(1, 20)],
    ok = pipelined(Pool, 221),
    go_on(Config),
    ?assertEqual({ok, <<"later">>}, answer(Holds)),
    [?assertEqual({ok, <<"behind", N>>}, answer(Pid)) || {N, Pid} <- lists:zip(lists:seq(1, 20), Behind)],
    %% One with a sanitizer keeps what was freed.
    ?assert(os:getenv("SOCKPOOL_NODE") =/= false orelse sockpool_c_daemon:memory_kb(?config(daemon, Config)) < 200 * 1024),
    {{19, _Us, _Caller, _Ref}, none} = sockpool_handmade_node:recv_message(Socket), % it is watched
    Answers = maps:from_list([begin
                                  {_, {N, Answer}} = sockpool_handmade_node:recv_message(Socket),
                                  {N, Answer}
                              end || _ <- Numbers]),
    Kept = [N || N <- Numbers, maps:get(N, Answers) =:= {ok, large(<<"large", N:32>>)}],
    ct:pal("~b of ~b were kept", [length(Kept), length(Numbers)]),
    ?assert(length(Kept) > 100 andalso length(Kept) < 150),
    [?assertEqual({error, enobufs}, maps:get(N, Answers)) || N <- Numbers -- Kept],
    nothing_leased(Pool),
    ?assertMatch(#{closed := 0}, stats(Pool)),
    ok = gen_tcp:close(Socket).

%% Of a process of that node: the node of this test is another one, and reads.
large_request(Name, N) ->
    Node = <<"full@127.0.0.1">>,
    Pid = binary_to_term(<<131, 88, 119, (byte_size(Node)), Node/binary, 1:32, 0:32, 7:32>>),
    Call = {'$gen_call', {Pid, N}, {request, make_ref(), Name, <<"large", N:32>>, packet, infinity}},
    sockpool_handmade_node:frame([112, 131, sockpool_handmade_node:term({6, Pid, '', sockpool}),
                                  131, sockpool_handmade_node:term(Call)]).

handmade(Config) ->
    [Name, Host] = string:lexemes(atom_to_list(?config(node, Config)), "@"),
    {port, Port, _} = erl_epmd:port_please(Name, Host),
    #{listens => Port, name => ?config(node, Config), cookie => atom_to_list(erlang:get_cookie())}.

%% Those under way count, until they are answered.
requests_that_are_kept(Config) ->
    Pool = {Name, Node} = started(Config, #{pipeline => 512, pipeline_stall => infinity}),
    Large = binary:copy(<<"k">>, 1000000),
    Holds = asking(Pool, <<"later">>),
    ok = pipelined(Pool, 1),
    Kept = [gen_server:send_request({sockpool, Node}, {request, make_ref(), Name, Large, packet, infinity}) || _ <- lists:seq(1, 140)],
    ok = wait_until(fun() -> stat(Pool, pipelined) + stat(Pool, waiting) >= 130 orelse stats(Pool) end),
    ?assertEqual({error, enobufs}, ask(Pool, Large)),
    ?assertEqual({error, enobufs}, ask(Pool, Large)),
    Other = client(?config(other_node, Config)),
    Small = begin_run(Other, fun() -> ask(Pool, <<"small">>) end),
    go_on(Config),
    ?assertEqual({ok, <<"later">>}, answer(Holds)),
    ?assertEqual({ok, <<"small">>}, result(Small)),
    Answers = [gen_server:receive_response(Request, ?WAIT_MS) || Request <- Kept],
    ?assert(length([ok || {reply, {ok, Reply}} <- Answers, Reply =:= Large]) >= 120),
    [?assertMatch({reply, {error, enobufs}}, Answer) || {reply, {error, _}} = Answer <- Answers],
    nothing_leased(Pool),
    ?assertEqual({ok, Large}, ask(Pool, Large)).

cancelled(Config) ->
    Pool = {Name, Node} = started(Config, #{pipeline => 3}),
    Ids = [make_ref() || _ <- lists:seq(1, 4)],
    Requests = [gen_server:send_request({sockpool, Node}, {request, Id, Name, <<"later", N>>, packet, infinity})
                || {N, Id} <- lists:enumerate(Ids)],
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    %% One under way, and the one that waits for a place.
    [ok = gen_server:cast({sockpool, Node}, {cancel, lists:nth(N, Ids)}) || N <- [2, 4]],
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 0 end),
    [go_on(Config) || _ <- Ids],
    [?assertEqual({reply, {ok, <<"later", N>>}}, gen_server:receive_response(lists:nth(N, Requests), ?WAIT_MS)) || N <- [1, 3]],
    [?assertEqual(timeout, gen_server:receive_response(lists:nth(N, Requests), 100)) || N <- [2, 4]],
    nothing_leased(Pool),
    ?assertMatch(#{pipelined := 3, closed := 0}, stats(Pool)).

%% Longer than a reply may be late: it has come meanwhile.
suspended_for_long(Config) ->
    Pool = started(Config, #{pipeline_stall => 500}),
    Daemon = ?config(daemon, Config),
    Asking = asking(Pool, <<"later">>),
    ok = pipelined(Pool, 1),
    ok = sockpool_c_daemon:suspend(Daemon),
    go_on(Config),
    timer:sleep(1000),
    ok = sockpool_c_daemon:resume(Daemon),
    ?assertEqual({ok, <<"later">>}, answer(Asking)),
    ?assertMatch(#{closed := 0}, stats(Pool)).

%% What is under way has its time, and nothing new begins.
drained_at_sigterm(Config) ->
    Pool = {_, Node} = started(Config, #{}),
    Daemon = ?config(daemon, Config),
    Asking = [asking(Pool, <<"later", N>>) || N <- lists:seq(1, 5)],
    ok = pipelined(Pool, 5),
    ok = sockpool_c_daemon:terminate(Daemon),
    %% A request that comes before the signal would wait for those under way.
    ok = wait_until(fun() -> sockpool:checkout(Pool, 0) =:= {error, draining} end),
    ?assertEqual({error, draining}, ask(Pool, <<"new">>)),
    [go_on(Config) || _ <- Asking],
    [?assertEqual({ok, <<"later", N>>}, answer(Pid)) || {N, Pid} <- lists:zip(lists:seq(1, 5), Asking)],
    ?assertEqual("exit_status=0", sockpool_c_daemon:await_line(Daemon, "exit_status=")),
    ?assertEqual({error, {nodedown, Node}}, ask(Pool, <<"gone">>)).

of_a_file(Config) ->
    Pool = ?config(pool, Config),
    ok = wait_until(fun() -> stat(Pool, idle) =:= 1 end),
    ?assertEqual({ok, <<"x">>}, ask(Pool, <<"x">>)),
    ?assertMatch(#{pipelined := 1}, stats(Pool)),
    Longer = binary:copy(<<"x">>, 1000),
    ?assertEqual({ok, Longer}, ask(Pool, Longer)),
    ?assertMatch(#{pipelined := 1, checkouts := 2}, stats(Pool)),
    Asking = [asking(Pool, <<"later", N>>) || N <- lists:seq(1, 9)],
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    [go_on(Config) || _ <- Asking],
    [?assertEqual({ok, <<"later", N>>}, answer(Pid)) || {N, Pid} <- lists:zip(lists:seq(1, 9), Asking)].

the_daemon_is_killed(Config) ->
    Pool = {_, Node} = started(Config, #{}),
    Asking = [asking(Pool, <<"later", N>>) || N <- lists:seq(1, 5)],
    ok = pipelined(Pool, 5),
    ok = sockpool_c_daemon:kill(?config(daemon, Config)),
    [?assertEqual({error, {nodedown, Node}}, answer(Pid)) || Pid <- Asking].
