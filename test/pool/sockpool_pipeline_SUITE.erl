%%% Many requests on one connection (docs/reference.md): each caller gets the reply to its own request, whoever else is
%%% killed, gives up, sleeps or stands still, and however the bytes come. The server echoes messages of four bytes of
%%% length, as the script of each connection says: late, in pieces, not at all, and it closes.
-module(sockpool_pipeline_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2, init_per_testcase/2,
         end_per_testcase/2]).
-export([each_gets_its_own/1, one_after_the_other/1, large_and_small/1, in_pieces/1, iodata/1, lengths_on_a_raw_pool/1,
         given_up/1, killed/1, suspended/1, low_priority/1, more_than_fit/1, too_many_wait/1, exclusive_in_turn/1,
         closed_under_way/1, unwritten_goes_elsewhere/1, silent_server/1, part_of_a_reply/1, too_big/1, bad_frame/1, unasked/1, zero_timeout/1,
         stopped/1, pool_process_crashes/1, too_long_goes_alone/1, no_message_is_left/1, other_pipelines_after_a_restart/1,
         many_at_once/1, many_more/1, storm/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stats/1, stat/2]).

-define(WAIT_MS, 60000).

%% `make test-pipeline' asks for millions.
suite() -> [{timetrap, case os:getenv("SOCKPOOL_PIPELINE_REQUESTS") of false -> {minutes, 5}; _ -> {hours, 3} end}].

all() -> [{group, tcp}, {group, unix}, {group, tls}, {group, c_tcp}, {group, c_unix}, {group, c_tls}].

groups() ->
    Everywhere = [each_gets_its_own, one_after_the_other, large_and_small, in_pieces, given_up, killed, more_than_fit, many_at_once, storm],
    Here = [many_more | Everywhere],
    Tcp = [iodata, lengths_on_a_raw_pool, suspended, low_priority, too_many_wait, exclusive_in_turn, closed_under_way,
           unwritten_goes_elsewhere, silent_server, part_of_a_reply, too_big, bad_frame, unasked, zero_timeout, stopped, too_long_goes_alone,
           no_message_is_left, other_pipelines_after_a_restart],
    [{tcp, [], Here ++ [pool_process_crashes | Tcp]},
     {unix, [], Here},
     {tls, [], Here},
     %% The same through the daemon priv/sockpool_node.
     {c_tcp, [], Everywhere ++ Tcp},
     {c_unix, [], Everywhere},
     {c_tls, [], Everywhere}].

init_per_suite(Config) -> sockpool_tls_kit:start(Config).

end_per_suite(Config) -> sockpool_tls_kit:stop(Config).

init_per_group(c_tcp, Config) -> on_a_daemon(tcp, Config);
init_per_group(c_unix, Config) -> on_a_daemon(unix, Config);
init_per_group(c_tls, Config) -> on_a_daemon(tls, Config);
init_per_group(Transport, Config) -> [{transport, Transport} | Config].

on_a_daemon(Transport, Config) ->
    sockpool_c_daemon:if_built(fun() ->
        ok = sockpool_cluster:be_a_node(),
        [{transport, Transport}, {daemon, sockpool_c_daemon:start()} | Config]
    end).

end_per_group(_Transport, Config) ->
    case ?config(daemon, Config) of
        undefined -> ok;
        Daemon -> 0 = sockpool_c_daemon:stop(Daemon)
    end.

init_per_testcase(Case, Config) ->
    Name = list_to_atom("pipeline_" ++ atom_to_list(Case) ++ "_" ++ atom_to_list(?config(transport, Config))),
    case ?config(daemon, Config) of
        undefined -> [{pool, Name} | Config];
        #{node := Node} -> [{pool, {Name, Node}} | Config]
    end.

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    ok.

%%% The server: for each connection a process that echoes. Behaviour is a fun of the socket's module and the socket.

server(Config, Serve) ->
    Self = self(),
    Transport = ?config(transport, Config),
    {Pid, Monitor} = spawn_monitor(fun() -> listen(Self, Transport, Config, Serve) end),
    receive
        {Pid, Target} -> erlang:demonitor(Monitor, [flush]), Target;
        {'DOWN', Monitor, _, _, Reason} -> error({no_server, Reason})
    end.

listen(Parent, tls, Config, Serve) ->
    {ok, Listener} = ssl:listen(0, [binary, {active, false}, {packet, raw}, {backlog, 128}
                                    | sockpool_tls_kit:identity(Config, "server")]),
    {ok, {_, Port}} = ssl:sockname(Listener),
    Parent ! {self(), #{host => "localhost", port => Port, transport => tls,
                        tls => #{cacertfile => sockpool_tls_kit:pem(Config, "ca")}}},
    accept_tls(Listener, Serve);
listen(Parent, tcp, _Config, Serve) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}, {backlog, 128}, {nodelay, true}]),
    {ok, Port} = inet:port(Listener),
    Parent ! {self(), #{host => {127, 0, 0, 1}, port => Port}},
    accept(Listener, Serve);
listen(Parent, unix, _Config, Serve) ->
    Path = sockpool_test_util:unix_path(),
    {ok, Listener} = gen_tcp:listen(0, [binary, {ifaddr, {local, Path}}, {active, false}, {backlog, 128}]),
    Parent ! {self(), #{transport => unix, path => Path}},
    accept(Listener, Serve).

accept(Listener, Serve) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Pid = spawn(fun() -> receive go -> Serve(gen_tcp, Socket) end end),
    ok = gen_tcp:controlling_process(Socket, Pid),
    Pid ! go,
    accept(Listener, Serve).

accept_tls(Listener, Serve) ->
    {ok, Accepted} = ssl:transport_accept(Listener),
    Pid = spawn(fun() -> receive go -> {ok, Socket} = ssl:handshake(Accepted), Serve(ssl, Socket) end end),
    ok = ssl:controlling_process(Accepted, Pid),
    Pid ! go,
    accept_tls(Listener, Serve).

%% As the bytes come.
echo(Module, Socket) ->
    case Module:recv(Socket, 0) of
        {ok, Bytes} -> _ = Module:send(Socket, Bytes), echo(Module, Socket);
        {error, _} -> ok
    end.

%% A message at a time, with what the fun makes of it: bytes to send, or the atom `close'.
serve(Answer) ->
    fun Loop(Module, Socket) ->
        maybe_answer(Module, Socket, Answer) =:= again andalso Loop(Module, Socket)
    end.

maybe_answer(Module, Socket, Answer) ->
    case Module:recv(Socket, 4) of
        {ok, <<Len:32>>} ->
            {ok, Message} = case Len of 0 -> {ok, <<>>}; _ -> Module:recv(Socket, Len) end,
            case Answer(Message) of
                close -> Module:close(Socket);
                Pieces -> lists:foreach(fun(Piece) -> _ = Module:send(Socket, Piece) end, Pieces), again
            end;
        {error, _} ->
            closed
    end.

framed(Message) -> <<(byte_size(Message)):32, Message/binary>>.

started(Config, Serve, Opts) ->
    Pool = ?config(pool, Config),
    Defaults = #{size => 2, max_overflow => 0, packet => 4, pipeline => 64, backoff => {1, 20}},
    ok = sockpool:start_pool(Pool, maps:merge(maps:merge(server(Config, Serve), Defaults), Opts)),
    _ = settled(Pool),
    Pool.

%%% Callers. Each checks each reply against its own request.

ask(Pool, Data) -> ask(Pool, Data, ?WAIT_MS).

ask(Pool, Data, Timeout) -> sockpool:request(Pool, Data, packet, Timeout).

asked(Pool, Callers, Each, Make) ->
    Asking = [spawn_monitor(fun() -> asks(Pool, Caller, Each, Make) end) || Caller <- lists:seq(1, Callers)],
    [receive {'DOWN', Monitor, process, Pid, Reason} -> ?assertEqual(normal, Reason) end || {Pid, Monitor} <- Asking],
    ok.

asks(Pool, Caller, Each, Make) ->
    [begin
         Data = Make(Caller, N),
         ?assertEqual({ok, Data}, ask(Pool, Data))
     end || N <- lists:seq(1, Each)],
    ?assertEqual([], element(2, process_info(self(), messages))).

small(Caller, N) -> <<Caller:32, N:32, (binary:copy(<<N>>, N rem 90))/binary>>.

asking(Pool, Data, Timeout) ->
    Self = self(),
    spawn_link(fun() -> Self ! {self(), ask(Pool, Data, Timeout)} end).

answer(Pid) -> receive {Pid, Answer} -> Answer after ?WAIT_MS -> error(no_answer) end.

idle_again(Pool) ->
    wait_until(fun() -> maps:with([leased, waiting], stats(Pool)) =:= #{leased => 0, waiting => 0} end).

%%% Right replies.

each_gets_its_own(Config) ->
    Pool = started(Config, fun echo/2, #{}),
    ok = asked(Pool, 200, 50, fun small/2),
    #{pipelined := Pipelined, checkouts := Checkouts, closed := 0} = stats(Pool),
    ?assertEqual(10000, Pipelined),
    ?assert(Checkouts < 10000),
    idle_again(Pool).

one_after_the_other(Config) ->
    Pool = started(Config, fun echo/2, #{size => 1}),
    ok = asked(Pool, 1, 1000, fun small/2),
    idle_again(Pool),
    ?assertMatch(#{pipelined := 1000, checkouts := 1000, checkins := 1000, closed := 0}, stats(Pool)).

large_and_small(Config) ->
    Pool = started(Config, fun echo/2, #{}),
    Make = fun(Caller, N) when (Caller + N) rem 10 =:= 0 -> binary:copy(<<Caller:32, N:32>>, 5000 * (1 + N rem 8));
              (Caller, N) -> small(Caller, N)
           end,
    ok = asked(Pool, 20, 30, Make),
    idle_again(Pool).

in_pieces(Config) ->
    Cut = fun(Message) ->
        All = framed(Message),
        At = erlang:phash2(Message, byte_size(All) + 1),
        <<First:At/binary, Second/binary>> = All,
        [First, Second]
    end,
    Pool = started(Config, serve(Cut), #{}),
    ok = asked(Pool, 50, 40, fun small/2),
    idle_again(Pool).

iodata(Config) ->
    Pool = started(Config, fun echo/2, #{}),
    ?assertEqual({ok, <<"abc">>}, ask(Pool, ["a", [<<"b">>, $c]])),
    ?assertEqual({ok, <<>>}, ask(Pool, [])),
    ?assertEqual({error, {bad_argument, data, [x]}}, ask(Pool, [x])),
    ?assertMatch({error, {bad_argument, length, -1}}, sockpool:request(Pool, "x", -1, 1000)).

lengths_on_a_raw_pool(Config) ->
    Pool = started(Config, fun echo/2, #{packet => raw}),
    Asking = [spawn_monitor(fun() ->
                  [begin
                       Data = <<Caller:64, N:64>>,
                       ?assertEqual({ok, Data}, sockpool:request(Pool, Data, 16, ?WAIT_MS))
                   end || N <- lists:seq(1, 100)]
              end) || Caller <- lists:seq(1, 50)],
    [receive {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(normal, Reason) end || {_, Monitor} <- Asking],
    ?assertMatch(#{pipelined := 5000, closed := 0}, stats(Pool)),
    ?assertMatch({error, {bad_argument, length, packet}}, ask(Pool, <<"x">>)),
    idle_again(Pool).

%%% Who does not come back.

%% Of "late" the server thinks for a while.
late(Ms) ->
    serve(fun(<<"late", _/binary>> = Message) -> timer:sleep(Ms), [framed(Message)];
             (Message) -> [framed(Message)]
          end).

given_up(Config) ->
    Self = self(),
    Serve = serve(fun(<<"late", _/binary>> = Message) -> Self ! {late, self()}, receive go -> [framed(Message)] end;
                     (Message) -> [framed(Message)]
                  end),
    Pool = started(Config, Serve, #{size => 1}),
    [begin
         Late = asking(Pool, <<"late", N>>, 50),
         Server = receive {late, Pid} -> Pid end,
         ?assertEqual({error, timeout}, answer(Late)),
         Asking = [asking(Pool, <<"next", N, M>>, ?WAIT_MS) || M <- lists:seq(1, 20)],
         Server ! go,
         [?assertEqual({ok, <<"next", N, M>>}, answer(Asker)) || {M, Asker} <- lists:zip(lists:seq(1, 20), Asking)]
     end || N <- lists:seq(1, 5)],
    idle_again(Pool),
    ?assertMatch(#{closed := 0}, stats(Pool)).

killed(Config) ->
    Pool = started(Config, late(100), #{size => 1}),
    [begin
         Victims = [spawn(fun() -> _ = ask(Pool, <<"late", N, M>>) end) || M <- lists:seq(1, 3)],
         Asking = [asking(Pool, <<"next", N, M>>, ?WAIT_MS) || M <- lists:seq(1, 20)],
         timer:sleep(N),
         [exit(Victim, kill) || Victim <- Victims],
         [?assertEqual({ok, <<"next", N, M>>}, answer(Pid)) || {M, Pid} <- lists:zip(lists:seq(1, 20), Asking)]
     end || N <- lists:seq(1, 10)],
    idle_again(Pool),
    ?assertMatch(#{closed := 0}, stats(Pool)).

%% Those who stand still hold up nobody, and find their replies later.
suspended(Config) ->
    Pool = started(Config, late(50), #{size => 1, pipeline => 8}),
    Still = [begin
                 Pid = asking(Pool, <<"late", N>>, ?WAIT_MS),
                 timer:sleep(N rem 4),
                 true = erlang:suspend_process(Pid),
                 {N, Pid}
             end || N <- lists:seq(1, 6)],
    ok = asked(Pool, 10, 20, fun small/2),
    [true = erlang:resume_process(Pid) || {_, Pid} <- Still],
    [?assertEqual({ok, <<"late", N>>}, answer(Pid)) || {N, Pid} <- Still],
    idle_again(Pool).

low_priority(Config) ->
    Pool = started(Config, fun echo/2, #{size => 1}),
    Self = self(),
    Slow = [spawn_opt(fun() -> Self ! {self(), ask(Pool, <<"slow", N>>)} end, [{priority, low}]) || N <- lists:seq(1, 10)],
    ok = asked(Pool, 50, 20, fun small/2),
    [?assertEqual({ok, <<"slow", N>>}, answer(Pid)) || {N, Pid} <- lists:zip(lists:seq(1, 10), Slow)].

%%% Room.

more_than_fit(Config) ->
    Pool = started(Config, fun echo/2, #{size => 2, pipeline => 2}),
    ok = asked(Pool, 100, 30, fun small/2),
    idle_again(Pool),
    ?assertMatch(#{pipelined := 3000, timeouts := 0, closed := 0}, stats(Pool)).

too_many_wait(Config) ->
    Pool = started(Config, late(300), #{size => 1, pipeline => 2, max_waiting => 1}),
    First = [asking(Pool, <<"late", N>>, ?WAIT_MS) || N <- [1, 2]],
    wait_until(fun() -> stat(Pool, pipelined) =:= 2 end),
    Waits = asking(Pool, <<"waits">>, ?WAIT_MS),
    wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    ?assertEqual({error, full}, ask(Pool, <<"full">>)),
    ?assertEqual({error, full}, ask(Pool, <<"full">>, 0)),
    [?assertEqual({ok, <<"late", N>>}, answer(Pid)) || {N, Pid} <- lists:zip([1, 2], First)],
    ?assertEqual({ok, <<"waits">>}, answer(Waits)),
    Again = [asking(Pool, <<"late", N>>, ?WAIT_MS) || N <- [1, 2]],
    wait_until(fun() -> stat(Pool, pipelined) =:= 5 end),
    ?assertEqual({error, timeout}, ask(Pool, <<"waits">>, 50)),
    [?assertEqual({ok, <<"late", N>>}, answer(Pid)) || {N, Pid} <- lists:zip([1, 2], Again)],
    idle_again(Pool).

%% First come, first served, whatever they want.
exclusive_in_turn(Config) ->
    Pool = started(Config, late(200), #{size => 1}),
    Late = asking(Pool, <<"late">>, ?WAIT_MS),
    wait_until(fun() -> stat(Pool, pipelined) =:= 1 end),
    Self = self(),
    Leases = spawn_link(fun() ->
        {ok, Conn} = sockpool:checkout(Pool, ?WAIT_MS),
        Self ! {self(), erlang:monotonic_time()},
        ok = sockpool:send(Conn, <<"mine">>),
        ?assertEqual({ok, <<"mine">>}, sockpool:recv(Conn, packet, ?WAIT_MS)),
        ok = sockpool:checkin(Conn)
    end),
    wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    Behind = asking(Pool, <<"behind">>, ?WAIT_MS),
    wait_until(fun() -> stat(Pool, waiting) =:= 2 end),
    ?assertEqual({ok, <<"late">>}, answer(Late)),
    _ = answer(Leases),
    ?assertEqual({ok, <<"behind">>}, answer(Behind)),
    idle_again(Pool).

%%% Connections that end.

closed_under_way(Config) ->
    Pool = started(Config, serve(fun(<<"close">>) -> close; (<<"hang">>) -> []; (Message) -> [framed(Message)] end), #{size => 1}),
    Hang = asking(Pool, <<"hang">>, ?WAIT_MS),
    wait_until(fun() -> stat(Pool, pipelined) =:= 1 end),
    timer:sleep(20),
    ?assertEqual({error, closed}, ask(Pool, <<"close">>)),
    ?assertEqual({error, closed}, answer(Hang)),
    ?assertEqual({ok, <<"again">>}, ask(Pool, <<"again">>)).

%% What is not written is asked elsewhere: the socket is full when the server closes it.
unwritten_goes_elsewhere(Config) ->
    Self = self(),
    Serve = fun(Module, Socket) ->
        Self ! {connected, self()},
        receive stand -> receive close -> Module:close(Socket) end; echo -> echo(Module, Socket) end
    end,
    Pool = started(Config, Serve, #{size => 1, pipeline_bytes => 16000000, sndbuf => 65536}),
    First = receive {connected, Pid} -> Pid end,
    First ! stand,
    Large = asking(Pool, binary:copy(<<"x">>, 15000000), ?WAIT_MS),
    wait_until(fun() -> stat(Pool, pipelined) =:= 1 end),
    Behind = [asking(Pool, <<"behind", N>>, ?WAIT_MS) || N <- lists:seq(1, 10)],
    wait_until(fun() -> stat(Pool, pipelined) =:= 11 end),
    First ! close,
    ?assertEqual({error, closed}, answer(Large)),
    receive {connected, Second} -> Second ! echo end,
    [?assertEqual({ok, <<"behind", N>>}, answer(Asker)) || {N, Asker} <- lists:zip(lists:seq(1, 10), Behind)].

silent_server(Config) ->
    Pool = started(Config, serve(fun(<<"hang", _/binary>>) -> []; (Message) -> [framed(Message)] end),
                   #{size => 2, pipeline_stall => 1000}),
    Hang = [asking(Pool, <<"hang", N>>, ?WAIT_MS) || N <- lists:seq(1, 3)],
    timer:sleep(300),
    %% Nothing new goes there.
    ?assertEqual({ok, <<"x">>}, ask(Pool, <<"x">>, 5000)),
    [?assertEqual({error, closed}, answer(Pid)) || Pid <- Hang],
    ?assertEqual({ok, <<"y">>}, ask(Pool, <<"y">>)).

%% What comes wakes who is alone, and gives it no more time than it asked for.
part_of_a_reply(Config) ->
    Pool = started(Config, fun(Module, Socket) ->
                                   {ok, _} = Module:recv(Socket, 0),
                                   receive after 1600 -> ok end,
                                   ok = Module:send(Socket, <<0>>),
                                   Module:recv(Socket, 0)
                           end, #{size => 1}),
    {Ms, Answer} = sockpool_test_util:elapsed_ms(fun() -> ask(Pool, <<"x">>, 2000) end),
    ?assertEqual({error, timeout}, Answer),
    ?assert(Ms >= 1990 andalso Ms < 3200, Ms).

too_big(Config) ->
    Pool = started(Config, serve(fun(<<"big">>) -> [<<1000:32>>, binary:copy(<<"x">>, 1000)];
                                    (Message) -> [framed(Message)] end), #{size => 1, recv_limit => 999}),
    ?assertEqual({error, emsgsize}, ask(Pool, <<"big">>)),
    ?assertEqual({error, emsgsize}, sockpool:request(Pool, <<"x">>, 1000, 1000)),
    ?assertEqual({ok, <<"small">>}, ask(Pool, <<"small">>)).

bad_frame(Config) ->
    Serve = fun(Module, Socket) -> {ok, _} = Module:recv(Socket, 0), ok = Module:send(Socket, "+OK\r\n!?\r\n"), echo(Module, Socket) end,
    Pool = started(Config, Serve, #{size => 1, packet => resp}),
    ?assertEqual({ok, <<"+OK\r\n">>}, ask(Pool, <<"+x\r\n">>)),
    wait_until(fun() -> stat(Pool, closed) >= 1 end).

%% One reply too many is nobody's.
unasked(Config) ->
    Pool = started(Config, serve(fun(<<"two">> = Message) -> [[framed(Message), framed(<<"more">>)]];
                                    (Message) -> [framed(Message)] end), #{size => 1}),
    [begin
         ?assertEqual({ok, <<"two">>}, ask(Pool, <<"two">>)),
         ?assertEqual({ok, <<"one">>}, ask(Pool, <<"one">>))
     end || _ <- lists:seq(1, 20)].

zero_timeout(Config) ->
    Pool = started(Config, late(200), #{size => 1}),
    ?assertEqual({error, timeout}, ask(Pool, <<"late">>, 0)),
    ?assertEqual({ok, <<"x">>}, ask(Pool, <<"x">>)).

stopped(Config) ->
    Pool = started(Config, serve(fun(_) -> [] end), #{size => 1, pipeline => 4}),
    Asking = [asking(Pool, <<N>>, ?WAIT_MS) || N <- lists:seq(1, 8)],
    wait_until(fun() -> stat(Pool, waiting) =:= 4 end),
    ok = sockpool:stop_pool(Pool),
    [?assertMatch({error, Reason} when Reason =:= closed; Reason =:= draining; Reason =:= not_found, answer(Pid)) || Pid <- Asking].

pool_process_crashes(Config) ->
    Pool = started(Config, serve(fun(<<"hang">>) -> []; (Message) -> [framed(Message)] end), #{size => 1}),
    Asking = [asking(Pool, <<"hang">>, ?WAIT_MS) || _ <- lists:seq(1, 4)],
    wait_until(fun() -> stat(Pool, pipelined) =:= 4 end),
    exit(sockpool_nif:pool_controller(sockpool_pool:find(Pool)), kill),
    [?assertMatch({error, _}, answer(Pid)) || Pid <- Asking],
    wait_until(fun() -> ask(Pool, <<"x">>, 1000) =:= {ok, <<"x">>} end).

too_long_goes_alone(Config) ->
    Pool = started(Config, fun echo/2, #{pipeline_bytes => 100}),
    Long = binary:copy(<<"long">>, 1000),
    ?assertEqual({ok, Long}, ask(Pool, Long)),
    ?assertMatch(#{pipelined := 0, checkouts := 1}, stats(Pool)).

no_message_is_left(Config) ->
    Pool = started(Config, late(5), #{size => 1}),
    Asking = [spawn_monitor(fun() ->
                  [_ = ask(Pool, <<"late", N, M>>, (N * M) rem 12) || M <- lists:seq(1, 40)],
                  timer:sleep(300),
                  ?assertEqual([], element(2, process_info(self(), messages)))
              end) || N <- lists:seq(1, 10)],
    [receive {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(normal, Reason) end || {_, Monitor} <- Asking],
    idle_again(Pool).

other_pipelines_after_a_restart(Config) ->
    Pool = started(Config, fun echo/2, #{pipeline => 4}),
    ok = asked(Pool, 10, 10, fun small/2),
    [begin
         ok = sockpool:stop_pool(Pool),
         Pool = started(Config, fun echo/2, #{pipeline => Many}),
         ok = asked(Pool, 10, 10, fun small/2),
         {ok, Conn} = sockpool:checkout(Pool),
         ok = sockpool:checkin(Conn)
     end || Many <- [1, 64, 4, 1, 4096]].

%%% A list of requests in one call: more than there is room for, too.

many_at_once(Config) ->
    Pool = started(Config, serve(fun(<<"hang">>) -> timer:sleep(1000), close; (Message) -> [framed(Message)] end),
                   #{size => 1, pipeline => 8, pipeline_stall => infinity}),
    Requests = [<<"many", N:32>> || N <- lists:seq(1, 50)],
    ?assertEqual([{ok, Data} || Data <- Requests], sockpool:request_many(Pool, Requests, packet, ?WAIT_MS)),
    ?assertEqual([], sockpool:request_many(Pool, [], packet, 0)),
    ?assertEqual([{ok, <<"a">>}, {error, {bad_argument, data, [x]}}, {ok, <<"b">>}],
                 sockpool:request_many(Pool, ["a", [x], [<<"b">>]], packet, ?WAIT_MS)),
    ?assertEqual([{ok, <<"a">>}, {error, timeout}, {error, timeout}],
                 sockpool:request_many(Pool, ["a", "hang", "b"], packet, 200)),
    ?assertEqual({error, {bad_argument, requests, x}}, sockpool:request_many(Pool, x, packet, 200)),
    ?assertEqual({error, {bad_argument, length, -1}}, sockpool:request_many(Pool, [], -1, 200)),
    ?assertEqual({error, {bad_argument, timeout, -1}}, sockpool:request_many(Pool, [], 0, -1)),
    ?assertEqual([], element(2, process_info(self(), messages))),
    ok = sockpool:stop_pool(Pool),
    Pool = started(Config, fun echo/2, #{size => 1, pipeline => 1}),
    ?assertEqual([{ok, Data} || Data <- Requests], sockpool:request_many(Pool, Requests, packet, ?WAIT_MS)).

%% The server answers four at a time: so many are under way whenever as many are left.
many_more(Config) ->
    Serve = fun Loop(Module, Socket) ->
        Messages = [begin
                        {ok, <<Len:32>>} = Module:recv(Socket, 4),
                        {ok, Message} = Module:recv(Socket, Len),
                        framed(Message)
                    end || _ <- lists:seq(1, 4)],
        ok = Module:send(Socket, Messages),
        Loop(Module, Socket)
    end,
    Pool = started(Config, Serve, #{size => 1, pipeline => 8}),
    Requests = [<<"many", N:32>> || N <- lists:seq(1, 40)],
    ?assertEqual([{ok, Data} || Data <- Requests], sockpool:request_many(Pool, Requests, packet, ?WAIT_MS)),
    ?assertMatch(#{pipelined := 40}, stats(Pool)),
    %% Two of the third dozen are left over, and what has not begun by then does not begin.
    Answers = sockpool:request_many(Pool, lists:sublist(Requests, 26), packet, 500),
    ?assertEqual(lists:duplicate(24, ok) ++ [error, error], [element(1, Answer) || Answer <- Answers]),
    ?assertEqual([], element(2, process_info(self(), messages))).

%%% Everything at once: callers are killed and give up, the server closes and is late. Who gets a reply gets its own.

storm(Config) ->
    _ = rand:seed(exsss, proplists:get_value(seed, Config, 1)),
    Serve = serve(fun(Message) ->
        case rand:uniform(1000) of
            1 -> close;
            2 -> timer:sleep(20), [framed(Message)];
            _ -> [framed(Message)]
        end
    end),
    Pool = started(Config, Serve, #{size => 3, max_overflow => 2, pipeline => 16}),
    Self = self(),
    Each = list_to_integer(os:getenv("SOCKPOOL_PIPELINE_REQUESTS", "12000")) div 60,
    Callers = [spawn_link(fun() -> stormy(Self, Pool, N, Each) end) || N <- lists:seq(1, 60)],
    Killer = spawn_link(fun() -> kills(Pool) end),
    Counts = [receive {Pid, Count} -> Count end || Pid <- Callers],
    unlink(Killer),
    exit(Killer, kill),
    Right = lists:sum(Counts),
    ct:pal("~b of ~b got their replies; ~p", [Right, 60 * Each, stats(Pool)]),
    ?assert(Right > 30 * Each),
    idle_again(Pool).

stormy(Parent, Pool, N, Each) ->
    Right = stormy(Pool, N, 1, Each, 0),
    [] = element(2, process_info(self(), messages)),
    Parent ! {self(), Right}.

stormy(_Pool, _N, M, Each, Right) when M > Each ->
    Right;
stormy(Pool, N, M, Each, Right) ->
    Data = <<N:32, M:32, (binary:copy(<<M>>, rand:uniform(200)))/binary>>,
    Timeout = case rand:uniform(20) of 1 -> rand:uniform(10); _ -> ?WAIT_MS end,
    case ask(Pool, Data, Timeout) of
        {ok, Data} -> stormy(Pool, N, M + 1, Each, Right + 1);
        {ok, Other} -> exit({swapped, Data, Other});
        {error, Reason} when Reason =:= timeout; Reason =:= closed; Reason =:= full -> stormy(Pool, N, M + 1, Each, Right)
    end.

kills(Pool) ->
    Victims = [spawn(fun() -> _ = [ask(Pool, <<"victim", N, M>>) || M <- lists:seq(1, 100)] end) || N <- lists:seq(1, 5)],
    timer:sleep(rand:uniform(10)),
    [exit(Victim, kill) || Victim <- Victims],
    kills(Pool).
