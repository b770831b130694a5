%%% Drives every function of the NIF through the states and errors it has, for the tools that watch
%%% memory: scripts/valgrind_vm.sh and scripts/asan_vm.sh run it. It is also a test by itself: each
%%% group checks its answers, that the pool has all its connections back, and that its process was
%%% sent nothing it did not ask for.
-module(sockpool_exercise).

-export([main/0]).

-define(PATIENCE_MS, 30000).
-define(WHOLE_RUN_MS, 900000).

%% @doc Ends the VM: 0 when all went well.
-spec main() -> no_return().
main() ->
    ok = logger:set_primary_config(level, none),
    {ok, _} = application:ensure_all_started(sockpool),
    Watchdog = erlang:send_after(?WHOLE_RUN_MS, self(), too_slow),
    %% The counts are of the code as loaded last, and of calls that are meant to do something.
    Upgrade = run(upgrade, fun upgrade/0),
    _ = erlang:trace_pattern({sockpool_nif, '_', '_'}, true, [call_count]),
    Results = [run(Name, Group) || {Name, Group} <- groups()],
    Uncalled = uncalled(),
    Garbage = run(garbage, fun sockpool_exercise_nif:garbage/0),
    _ = erlang:cancel_timer(Watchdog),
    case {lists:member(failed, [Upgrade, Garbage | Results]), Uncalled} of
        {false, []} ->
            io:format("exercise: passed, every function of the NIF was called~n"),
            halt(0);
        {_, _} ->
            io:format("exercise: FAILED; functions never called: ~p~n", [Uncalled]),
            halt(1)
    end.

groups() ->
    [{leases, fun leases/0},
     {bytes, fun bytes/0},
     {packets, fun packets/0},
     {large_messages, fun large_messages/0},
     {send_timeouts, fun send_timeouts/0},
     {requests, fun requests/0},
     {waiters, fun waiters/0},
     {deaths, fun deaths/0},
     {storm, fun storm/0},
     {races, fun races/0},
     {peers_that_close, fun peers_that_close/0},
     {overflow, fun overflow/0},
     {max_hold, fun max_hold/0},
     {connect_failures, fun connect_failures/0},
     {pool_crash_and_stop, fun pool_crash_and_stop/0},
     {unix_sockets, fun unix_sockets/0},
     {raw_functions, fun sockpool_exercise_nif:functions/0}].

%% Each group has a process of its own, so that it has a mailbox of its own.
run(Name, Group) ->
    Start = erlang:monotonic_time(millisecond),
    {Pid, Monitor} = spawn_monitor(fun() -> Group(), ok = empty_mailbox() end),
    receive
        {'DOWN', Monitor, process, Pid, normal} ->
            io:format("exercise: ~s ok (~b ms)~n",
                      [Name, erlang:monotonic_time(millisecond) - Start]);
        {'DOWN', Monitor, process, Pid, Reason} ->
            io:format("exercise: ~s FAILED: ~p~n", [Name, Reason]),
            failed;
        too_slow ->
            io:format("exercise: ~s takes too long: ~p~n",
                      [Name, erlang:process_info(Pid, current_stacktrace)]),
            halt(2)
    end.

uncalled() ->
    [F || {Name, Arity} = F <- sockpool_nif:module_info(exports), Name =/= module_info,
          not was_called(erlang:trace_info({sockpool_nif, Name, Arity}, call_count))].

was_called({call_count, Count}) -> is_integer(Count) andalso Count > 0.

empty_mailbox() ->
    receive Any -> {stray_message, Any} after 0 -> ok end.

%%% Helpers.

with_pool(Opts, Fun) ->
    Peer = sockpool_scripted_peer:start(maps:get(peer, Opts, #{})),
    Where = #{host => {127, 0, 0, 1}, port => sockpool_scripted_peer:port(Peer)},
    Name = started(maps:merge(Where, maps:remove(peer, Opts))),
    settled(Name),
    Fun(Name, Peer),
    settled(Name),
    ok = sockpool:stop_pool(Name),
    {error, not_found} = sockpool:checkout(Name),
    ok = sockpool_scripted_peer:stop(Peer).

started(Opts) ->
    Name = list_to_atom("exercise_" ++ integer_to_list(erlang:unique_integer([positive]))),
    {ok, _} = sockpool:start_pool(Name, maps:merge(#{size => 2, max_overflow => 0}, Opts)),
    Name.

until(Holds) ->
    until(Holds, erlang:monotonic_time(millisecond) + ?PATIENCE_MS).

until(Holds, Deadline) ->
    case Holds() of
        true ->
            ok;
        Other ->
            erlang:monotonic_time(millisecond) < Deadline orelse error({not_reached, Other}),
            receive after 5 -> ok end,
            until(Holds, Deadline)
    end.

%% Everything was given back, and nothing got lost.
settled(Name) ->
    until(fun() ->
                  {ok, Stats} = sockpool:stats(Name),
                  #{size := Size, total := Total, idle := Idle, leased := Leased,
                    connecting := Connecting, waiting := Waiting} = Stats,
                  (Leased =:= 0 andalso Waiting =:= 0 andalso Connecting =:= 0
                   andalso Idle =:= Total andalso Total >= Size) orelse Stats
          end).

%% The process waits in sockpool's receive, which one of these called.
waits(Pid, In) ->
    until(fun() ->
                  case erlang:process_info(Pid, [status, current_stacktrace]) of
                      [{status, waiting},
                       {current_stacktrace, [{sockpool_wait, await, 2, _},
                                             {sockpool_wait, Function, _, _} | _]}] ->
                          lists:member(Function, In) orelse {waits_in, Function};
                      Other ->
                          Other
                  end
          end).

%% A process that runs the fun and keeps what it returns, and its handles, until it is told to end.
holder(Fun) ->
    spawn(fun() ->
                  Kept = Fun(),
                  receive {finish, From} -> From ! {self(), Kept} end
          end).

finish(Pid) ->
    Pid ! {finish, self()},
    receive {Pid, Result} -> Result after ?PATIENCE_MS -> error(holder_gone) end.

kill(Pid) ->
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

hold(Name) ->
    Self = self(),
    Pid = holder(fun() -> {ok, Conn} = sockpool:checkout(Name), Self ! {held, self()}, Conn end),
    receive {held, Pid} -> Pid end.

in_parallel(Count, Fun) ->
    Pids = [spawn_monitor(fun() -> Fun(Index), ok = empty_mailbox() end)
            || Index <- lists:seq(1, Count)],
    [receive {'DOWN', Monitor, process, Pid, normal} -> ok;
             {'DOWN', Monitor, process, Pid, Reason} -> error({process, Reason})
     end || {Pid, Monitor} <- Pids],
    ok.

bytes(Count) ->
    binary:copy(<<"0123456789abcdef">>, Count div 16 + 1).

%%% Groups.

leases() ->
    with_pool(#{}, fun leases/2).

leases(Name, _Peer) ->
    {ok, Conn} = sockpool:checkout(Name),
    {ok, #{pool := Name, transport := tcp, packet := raw, peername := Address}} =
        sockpool:info(Conn),
    {ok, Address} = sockpool:peername(Conn),
    {ok, {{127, 0, 0, 1}, _}} = sockpool:sockname(Conn),
    ok = sockpool:setopts(Conn, [{nodelay, false}, {keepalive, true}, {packet, 2}]),
    [{error, {bad_option, Key, Value}} = sockpool:setopts(Conn, [{Key, Value}])
     || {Key, Value} <- [{nodelay, 1}, {sndbuf, 0}, {packet, 3}, {colour, red}, {1, 2}]],
    ok = sockpool:checkin(Conn),
    [{error, closed} = F(Conn)
     || F <- [fun sockpool:checkin/1, fun sockpool:discard/1, fun sockpool:info/1,
              fun sockpool:peername/1, fun sockpool:sockname/1,
              fun(C) -> sockpool:send(C, "x") end, fun(C) -> sockpool:recv(C, 0) end,
              fun(C) -> sockpool:setopts(C, [{nodelay, true}]) end,
              fun(C) -> sockpool:give_away(C, self()) end]],
    {ok, Buffers} = sockpool:checkout(Name),
    ok = sockpool:setopts(Buffers, [{sndbuf, 8192}, {recbuf, 8192}]),
    ok = sockpool:checkin(Buffers),
    {ok, Discarded} = sockpool:checkout(Name),
    ok = sockpool:discard(Discarded),
    given_away(Name),
    ok = sockpool:transaction(Name, fun(C) -> sockpool:send(C, "") end),
    {ok, raised} = sockpool:execute(Name, fun(_) -> raised end),
    try sockpool:transaction(Name, fun(_) -> throw(up) end) catch throw:up -> ok end.

given_away(Name) ->
    {ok, Conn} = sockpool:checkout(Name),
    Self = self(),
    Other = spawn(fun() -> on_request(Self) end),
    {error, not_owner} = ask(Other, fun() -> sockpool:send(Conn, "x") end),
    ok = sockpool:give_away(Conn, Other),
    {error, not_owner} = sockpool:checkin(Conn),
    ok = ask(Other, fun() -> sockpool:send(Conn, "x") end),
    {ok, <<"x">>} = ask(Other, fun() -> sockpool:recv(Conn, 1) end),
    ok = ask(Other, fun() -> sockpool:give_away(Conn, Self) end),
    ok = kill(Other),
    {error, noproc} = sockpool:give_away(Conn, Other),
    ok = sockpool:checkin(Conn).

on_request(Asker) ->
    receive Fun -> Asker ! {self(), Fun()} end,
    on_request(Asker).

ask(Pid, Fun) ->
    Pid ! Fun,
    receive {Pid, Answer} -> Answer end.

bytes() ->
    with_pool(#{}, fun bytes/2).

bytes(Name, Peer) ->
    {ok, Conn} = sockpool:checkout(Name),
    {ok, Client} = sockpool:sockname(Conn),
    Tell = fun(Command) -> ok = sockpool_scripted_peer:command(Peer, Client, Command) end,
    ok = sockpool:send(Conn, ["ab", <<"cd">>, [[$e]], bytes(100)]),
    {ok, <<"abcde">>} = sockpool:recv(Conn, 5),
    {ok, <<"0123">>} = sockpool:recv(Conn, 4, 0),
    {ok, _Rest} = sockpool:recv(Conn, 0),
    {error, timeout} = sockpool:recv(Conn, 10, 0),
    Tell({send, "12345"}),
    {error, timeout} = sockpool:recv(Conn, 10, 20),
    Tell({send, "67890"}),
    {ok, <<"1234567890">>} = sockpool:recv(Conn, 10),
    {error, emsgsize} = sockpool:recv(Conn, 1 bsl 40, 0),
    Many = [<<I>> || I <- lists:seq(0, 199)],
    ok = sockpool:send(Conn, Many),
    Whole = iolist_to_binary(Many),
    {ok, Whole} = sockpool:recv(Conn, 200),
    ok = busy(Conn),
    ok = sockpool:checkin(Conn).

%% While the owner waits nobody can be the owner, so this calls the NIF itself.
busy(Conn) ->
    wait = sockpool_nif:recv(Conn, 1, false, make_ref()),
    {error, busy} = sockpool:recv(Conn, 1),
    {error, busy} = sockpool:send(Conn, "x"),
    {error, busy} = sockpool:checkin(Conn),
    {error, busy} = sockpool:discard(Conn),
    {error, busy} = sockpool:give_away(Conn, self()),
    cancelled = sockpool_nif:disarm(Conn),
    ok.

packets() ->
    [with_pool(#{packet => Packet}, fun(Name, Peer) -> packets(Packet, Name, Peer) end)
     || Packet <- [1, 2, 4, line]],
    with_pool(#{packet => line, recv_limit => 1000}, fun limited/2),
    with_pool(#{packet => 4, recv_limit => 1000}, fun limited/2).

packets(Packet, Name, Peer) ->
    Messages = [<<"a\n">>, <<"0123456789\n">>, <<(binary:copy(<<"x">>, 253))/binary, "\n">>],
    {ok, Conn} = sockpool:checkout(Name),
    [begin
         ok = sockpool:send(Conn, Message),
         {ok, Message} = sockpool:recv(Conn, 0)
     end || Message <- Messages],
    {error, {bad_argument, length, 1}} = sockpool:recv(Conn, 1),
    {ok, Client} = sockpool:sockname(Conn),
    Wire = << <<(framed(Packet, Message))/binary>> || Message <- Messages ++ Messages >>,
    [ok = sockpool_scripted_peer:command(Peer, Client, {send, <<Byte>>}) || <<Byte>> <= Wire],
    [{ok, Message} = sockpool:recv(Conn, 0) || Message <- Messages ++ Messages],
    Packet =/= 1 orelse {error, emsgsize} =:= sockpool:send(Conn, bytes(256))
        orelse error(emsgsize),
    ok = sockpool:checkin(Conn),
    [{ok, Message} = sockpool:request(Name, Message, packet, 5000) || Message <- Messages],
    {error, {bad_argument, length, 3}} = sockpool:request(Name, "x", 3, 5000),
    ok.

framed(line, Message) -> Message;
framed(Bytes, Message) -> <<(byte_size(Message)):Bytes/unit:8, Message/binary>>.

limited(Name, _Peer) ->
    {error, emsgsize} = sockpool:request(Name, bytes(2000), packet, 5000),
    {ok, <<"short\n">>} = sockpool:request(Name, "short\n", packet, 5000),
    ok.

%% More than the sockets' buffers take: sending and receiving go in slices and have to wait.
large_messages() ->
    Small = #{sndbuf => 8192, recbuf => 8192, packet => 4, peer => #{packet => 4}},
    with_pool(Small,
              fun(Name, _Peer) ->
                      Big = bytes(300000),
                      {ok, Big} = sockpool:request(Name, Big, packet, ?PATIENCE_MS),
                      in_parallel(4, fun(Index) ->
                                             Data = bytes(40000 * Index),
                                             {ok, Data} = sockpool:request(Name, [Data], packet,
                                                                           ?PATIENCE_MS)
                                     end),
                      {ok, Conn} = sockpool:checkout(Name),
                      ok = sockpool:send(Conn, [Big, Big]),
                      {ok, Both} = sockpool:recv(Conn, 0, ?PATIENCE_MS),
                      Both = <<Big/binary, Big/binary>>,
                      ok = sockpool:checkin(Conn)
              end),
    with_pool(#{recbuf => 8192, size => 1},
              fun(Name, Peer) ->
                      {ok, Conn} = sockpool:checkout(Name),
                      {ok, Client} = sockpool:sockname(Conn),
                      Big = bytes(200000),
                      ok = sockpool_scripted_peer:command(Peer, Client, {stream, [Big, Big, "end\n"]}),
                      {ok, Big} = sockpool:recv(Conn, byte_size(Big), ?PATIENCE_MS),
                      ok = sockpool:setopts(Conn, [{packet, line}]),
                      {ok, Line} = sockpool:recv(Conn, 0, ?PATIENCE_MS),
                      Line = <<Big/binary, "end\n">>,
                      ok = sockpool:discard(Conn)
              end).

send_timeouts() ->
    Opts = #{sndbuf => 4096, send_timeout => 20, peer => #{mode => silent}},
    with_pool(Opts, fun send_timeouts/2).

send_timeouts(Name, Peer) ->
    TooMuch = bytes(8000000),
    {ok, Conn} = sockpool:checkout(Name),
    {error, timeout} = sockpool:send(Conn, TooMuch),
    {error, timeout} = sockpool:send(Conn, TooMuch, 0),
    ok = sockpool:checkin(Conn),
    {error, timeout} = sockpool:request(Name, TooMuch, 1, 20),
    Sender = holder(fun() ->
                            {ok, C} = sockpool:checkout(Name),
                            {sockpool:send(C, TooMuch, infinity), sockpool:checkin(C)}
                    end),
    ok = waits(Sender, [send_more]),
    ok = kill(Sender),
    Self = self(),
    Closed = holder(fun() ->
                            {ok, C} = sockpool:checkout(Name),
                            {ok, Client} = sockpool:sockname(C),
                            Self ! {client, Client},
                            {sockpool:send(C, TooMuch, infinity), sockpool:checkin(C)}
                    end),
    Address = receive {client, Client} -> Client end,
    ok = waits(Closed, [send_more]),
    ok = sockpool_scripted_peer:command(Peer, Address, abort),
    {{error, Reason}, ok} = finish(Closed),
    true = lists:member(Reason, [econnreset, closed]),
    ok.

requests() ->
    with_pool(#{peer => #{mode => silent}}, fun silent_requests/2),
    with_pool(#{}, fun(Name, _Peer) ->
                           in_parallel(20, fun(Index) ->
                                                   Data = bytes(Index),
                                                   {ok, Data} =
                                                       sockpool:request(Name, Data,
                                                                        byte_size(Data),
                                                                        ?PATIENCE_MS)
                                           end)
                   end).

%% Idle, granted with the connection, and still waiting for one.
silent_requests(Name, _Peer) ->
    {error, timeout} = sockpool:request(Name, "x", 1, 0),
    {error, timeout} = sockpool:request(Name, "x", 1, 10),
    ok = settled(Name),
    Holders = [hold(Name), hold(Name)],
    {error, full} = sockpool:request(Name, "x", 1, 0),
    {error, timeout} = sockpool:request(Name, "x", 1, 10),
    Granted = [holder(fun() -> sockpool:request(Name, ["x", "y"], 1, 300) end) || _ <- [1, 2]],
    [ok = waits(Pid, [request]) || Pid <- Granted],
    [ok = kill(Pid) || Pid <- Holders],
    [{error, timeout} = finish(Pid) || Pid <- Granted],
    ok = settled(Name),
    Killed = [holder(fun() -> sockpool:request(Name, "x", 1, infinity) end) || _ <- [1, 2, 3, 4]],
    [ok = waits(Pid, [request, finish]) || Pid <- Killed],
    [ok = kill(Pid) || Pid <- Killed],
    ok.

waiters() ->
    with_pool(#{max_waiting => 3}, fun waiters/2).

waiters(Name, _Peer) ->
    First = [hold(Name), hold(Name)],
    {error, full} = sockpool:checkout(Name, 0),
    {error, timeout} = sockpool:checkout(Name, 10),
    Waiting = [holder(fun() -> sockpool:checkout(Name, infinity) end) || _ <- [1, 2, 3]],
    [ok = waits(Pid, [checkout]) || Pid <- Waiting],
    {error, full} = sockpool:checkout(Name, 1000),
    {error, full} = sockpool:request(Name, "x", 1, 1000),
    {ok, #{waiting := 3, leased := 2}} = sockpool:stats(Name),
    [ok = kill(Pid) || Pid <- First],
    [Dead | Alive] = Waiting,
    ok = kill(Dead),
    [{ok, _} = finish(Pid) || Pid <- Alive],
    ok.

%% The owner dies in every state that a lease can be in.
deaths() ->
    with_pool(#{}, fun deaths/2).

deaths(Name, _Peer) ->
    Checkout = fun() -> {ok, C} = sockpool:checkout(Name, infinity), C end,
    [begin
         Pid = holder(State),
         ok = Wait(Pid),
         ok = kill(Pid),
         ok = settled(Name)
     end || {State, Wait} <-
                [{Checkout, fun idles/1},
                 {fun() -> C = Checkout(), ok = sockpool:send(C, "x"), C end, fun idles/1},
                 {fun() -> sockpool:recv(Checkout(), 1, infinity) end,
                  fun(Pid) -> waits(Pid, [recv_more]) end},
                 {fun() -> C = Checkout(), {error, timeout} = sockpool:recv(C, 1, 1), C end,
                  fun idles/1}]],
    ok = escaped_handle(Name).

idles(Pid) ->
    until(fun() -> erlang:process_info(Pid, status) =:= {status, waiting}
                       andalso element(2, erlang:process_info(Pid, current_function))
                       =/= {sockpool_wait, await, 2}
          end).

%% The handle outlives its owner, so that no destructor tells of the death.
escaped_handle(Name) ->
    Pid = holder(fun() -> {ok, Conn} = sockpool:checkout(Name), Conn end),
    Table = ets:new(handles, []),
    true = ets:insert(Table, {handle, finish(Pid)}),
    ok = settled(Name),
    [{handle, Conn}] = ets:lookup(Table, handle),
    {error, not_owner} = sockpool:send(Conn, "x"),
    true = ets:delete(Table),
    ok.

%% Owners killed at random moments.
storm() ->
    with_pool(#{size => 3, max_overflow => 2, overflow_ttl => 30},
              fun(Name, _Peer) ->
                      in_parallel(3, fun(_) -> [storm_kill(Name) || _ <- lists:seq(1, 40)] end)
              end).

storm_kill(Name) ->
    Pids = [spawn(fun() -> storm_work(Name) end) || _ <- [1, 2, 3]],
    receive after rand:uniform(12) -> ok end,
    [ok = kill(Pid) || Pid <- Pids].

storm_work(Name) ->
    case rand:uniform(3) of
        1 ->
            {ok, <<"abc">>} = sockpool:request(Name, "abc", 3, infinity);
        2 ->
            {ok, Conn} = sockpool:checkout(Name, infinity),
            ok = sockpool:send(Conn, "abc"),
            {ok, <<"abc">>} = sockpool:recv(Conn, 3, infinity),
            ok = sockpool:checkin(Conn);
        3 ->
            {ok, Conn} = sockpool:checkout(Name, infinity),
            ok = sockpool:checkin(Conn)
    end,
    storm_work(Name).

%% Time-outs that come together with what they wait for.
races() ->
    with_pool(#{}, fun(Name, _Peer) ->
                           in_parallel(10, fun(_) -> [race(Name) || _ <- lists:seq(1, 20)] end),
                           in_parallel(2, fun(_) -> recv_races(Name) end)
                   end).

race(Name) ->
    Timeout = rand:uniform(4) - 1,
    case rand:uniform(2) of
        1 ->
            case sockpool:checkout(Name, Timeout) of
                {ok, Conn} -> ok = sockpool:checkin(Conn);
                {error, Reason} -> true = lists:member(Reason, [timeout, full])
            end;
        2 ->
            case sockpool:request(Name, "abc", 3, Timeout) of
                {ok, Reply} -> <<"abc">> = Reply;
                {error, Reason} -> true = lists:member(Reason, [timeout, full])
            end
    end.

recv_races(Name) ->
    {ok, Conn} = sockpool:checkout(Name, infinity),
    [begin
         ok = sockpool:send(Conn, <<I:32>>),
         {ok, <<I:32>>} = case sockpool:recv(Conn, 4, I rem 3) of
                              {error, timeout} -> sockpool:recv(Conn, 4, ?PATIENCE_MS);
                              Received -> Received
                          end
     end || I <- lists:seq(1, 60)],
    ok = sockpool:checkin(Conn).

peers_that_close() ->
    with_pool(#{size => 1}, fun peers_that_close/2).

peers_that_close(Name, Peer) ->
    [begin
         {ok, Conn} = sockpool:checkout(Name),
         {ok, Client} = sockpool:sockname(Conn),
         Leased andalso (ok = sockpool_scripted_peer:command(Peer, Client, Command)),
         Leased andalso (ok = dead(Conn, Command)),
         ok = sockpool:checkin(Conn),
         Leased orelse (ok = sockpool_scripted_peer:command(Peer, Client, Command)),
         {ok, <<"fresh">>} = sockpool:request(Name, "fresh", 5, ?PATIENCE_MS)
     end || Leased <- [true, false], Command <- [close, abort, {send, "stray"}]],
    watched(Name, Peer).

dead(Conn, {send, _}) ->
    {ok, <<"stra">>} = sockpool:recv(Conn, 4),
    ok;
dead(Conn, _Close) ->
    {error, Reason} = sockpool:recv(Conn, 1),
    true = lists:member(Reason, [closed, econnreset]),
    {error, _} = sockpool:recv(Conn, 1, 0),
    ok.

%% An idle connection is replaced without anybody asking for it, once it is watched.
watched(Name, Peer) ->
    {ok, Conn} = sockpool:checkout(Name),
    {ok, Client} = sockpool:sockname(Conn),
    ok = sockpool:checkin(Conn),
    {ok, #{closed := Closed}} = sockpool:stats(Name),
    ok = sockpool_scripted_peer:command(Peer, Client, close),
    until(fun() -> {ok, Stats} = sockpool:stats(Name), maps:get(closed, Stats) > Closed end).

overflow() ->
    [with_pool(#{size => 1, max_overflow => 3, overflow_ttl => Ttl, strategy => Strategy,
                 validate => Validate},
               fun(Name, _Peer) ->
                       Holders = [hold(Name) || _ <- lists:seq(1, 4)],
                       [ok = kill(Pid) || Pid <- Holders],
                       until(fun() ->
                                     {ok, #{total := Total}} = sockpool:stats(Name),
                                     Total =:= 1 orelse Ttl =:= infinity
                             end)
               end) || {Ttl, Strategy, Validate} <- [{0, lifo, always}, {50, fifo, never},
                                                     {infinity, lifo, {'after', 50}}]].

max_hold() ->
    with_pool(#{max_hold => 50, size => 1},
              fun(Name, _Peer) ->
                      {ok, Waiting} = sockpool:checkout(Name),
                      {error, closed} = sockpool:recv(Waiting, 1, infinity),
                      {ok, Unused} = sockpool:checkout(Name),
                      {ok, Next} = sockpool:checkout(Name, infinity),
                      {error, closed} = sockpool:checkin(Unused),
                      ok = sockpool:checkin(Next)
              end).

connect_failures() ->
    [begin
         Name = started(Opts#{backoff => {1, 20}, connect_timeout => 200}),
         until(fun() ->
                       {error, Reason} = sockpool:checkout(Name, 20),
                       Expected(Reason) orelse Reason
               end),
         ok = sockpool:stop_pool(Name)
     end || {Opts, Expected} <- failing()],
    ok = full_backlog().

%% Port 1 is out of the range of ephemeral ports: a client cannot be connected to itself there.
failing() ->
    Unavailable = fun(Last) -> fun(Reason) -> Reason =:= {unavailable, Last} end end,
    [{#{host => {127, 0, 0, 1}, port => 1}, Unavailable(econnrefused)},
     {#{host => [{127, 0, 0, 1}, {0, 0, 0, 0, 0, 0, 0, 1}], port => 1},
      fun(Reason) -> element(1, Reason) =:= unavailable end},
     {#{host => {127, 0, 0, 1}, port => 1, bind => {127, 0, 0, 2}}, Unavailable(econnrefused)},
     {#{transport => unix, path => "/nonexistent/socket"}, Unavailable(enoent)}].

%% Connecting hangs, and is killed at connect_timeout.
full_backlog() ->
    Peer = sockpool_scripted_peer:start(#{backlog => 1, accept => false}),
    Name = started(#{host => {127, 0, 0, 1}, port => sockpool_scripted_peer:port(Peer),
                     size => 8, connect_timeout => 50, backoff => {1, 20}}),
    until(fun() -> {ok, Stats} = sockpool:stats(Name), maps:get(connect_failures, Stats) > 0 end),
    ok = sockpool:stop_pool(Name),
    ok = sockpool_scripted_peer:stop(Peer),
    inits().

inits() ->
    Greet = fun(Conn) ->
                    ok = sockpool:setopts(Conn, [{packet, 2}]),
                    ok = sockpool:send(Conn, "hello"),
                    {ok, <<"hello">>} = sockpool:recv(Conn, 0),
                    {error, busy} = sockpool:checkin(Conn),
                    {error, busy} = sockpool:give_away(Conn, self()),
                    ok
            end,
    with_pool(#{init => Greet}, fun(Name, _Peer) -> {ok, _} = sockpool:checkout(Name) end),
    Fails = [fun(_) -> {error, no} end, fun(_) -> exit(no) end, fun(_) -> what end,
             fun(_) -> receive never -> ok end end],
    [begin
         Peer = sockpool_scripted_peer:start(#{}),
         Name = started(#{host => {127, 0, 0, 1}, port => sockpool_scripted_peer:port(Peer),
                          init => Fail, connect_timeout => 100, backoff => {1, 20}}),
         until(fun() ->
                       {ok, Stats} = sockpool:stats(Name),
                       maps:get(connect_failures, Stats) > 1
               end),
         ok = sockpool:stop_pool(Name),
         ok = sockpool_scripted_peer:stop(Peer)
     end || Fail <- Fails],
    ok.

pool_crash_and_stop() ->
    with_pool(#{}, fun crash/2),
    Peer = sockpool_scripted_peer:start(#{}),
    Name = started(#{host => {127, 0, 0, 1}, port => sockpool_scripted_peer:port(Peer)}),
    {Held, Receiving, Waiting} = occupied(Name),
    ok = sockpool:stop_pool(Name),
    {error, draining} = finish(Waiting),
    {error, closed} = finish(Receiving),
    {error, closed} = finish(Held),
    ok = sockpool_scripted_peer:stop(Peer).

crash(Name, _Peer) ->
    {Held, Receiving, Waiting} = occupied(Name),
    {ok, Pool} = pool_process(Name),
    ok = kill(Pool),
    {error, closed} = finish(Waiting),
    {error, closed} = finish(Receiving),
    {error, closed} = finish(Held),
    until(fun() -> {ok, New} = pool_process(Name), New =/= Pool end).

occupied(Name) ->
    Self = self(),
    Held = spawn(fun() ->
                         {ok, Conn} = sockpool:checkout(Name),
                         Self ! {held, self()},
                         receive {finish, From} -> From ! {self(), sockpool:send(Conn, "x")} end
                 end),
    receive {held, Held} -> ok end,
    Receiving = holder(fun() ->
                               {ok, Conn} = sockpool:checkout(Name),
                               sockpool:recv(Conn, 1, infinity)
                       end),
    ok = waits(Receiving, [recv_more]),
    Waiting = holder(fun() -> sockpool:checkout(Name, infinity) end),
    ok = waits(Waiting, [checkout]),
    {Held, Receiving, Waiting}.

pool_process(Name) ->
    case lists:keyfind({sockpool, Name}, 1, supervisor:which_children(sockpool_sup)) of
        {_, Pid, _, _} when is_pid(Pid) -> {ok, Pid};
        Other -> {error, Other}
    end.

%% The library is loaded over itself while connections and handles of the old code live.
upgrade() ->
    with_pool(#{size => 1},
              fun(Name, _Peer) ->
                      {ok, Conn} = sockpool:checkout(Name),
                      Waiting = holder(fun() -> sockpool:checkout(Name, infinity) end),
                      ok = waits(Waiting, [checkout]),
                      [begin
                           {module, sockpool_nif} = code:load_file(sockpool_nif),
                           true = code:soft_purge(sockpool_nif),
                           ok = sockpool:send(Conn, "old"),
                           {ok, <<"old">>} = sockpool:recv(Conn, 3)
                       end || _ <- [1, 2]],
                      ok = sockpool:checkin(Conn),
                      {ok, _} = finish(Waiting)
              end).

unix_sockets() ->
    Path = filename:join(os:getenv("TMPDIR", "/tmp"), "sockpool_exercise_" ++ os:getpid()),
    Peer = sockpool_scripted_peer:start(#{path => Path}),
    Name = started(#{transport => unix, path => Path, sndbuf => 16384}),
    {ok, <<"hello">>} = sockpool:request(Name, "hello", 5, ?PATIENCE_MS),
    {ok, Conn} = sockpool:checkout(Name),
    Local = list_to_binary(Path),
    {ok, {local, Local}} = sockpool:peername(Conn),
    {ok, {local, <<>>}} = sockpool:sockname(Conn),
    {error, enoprotoopt} = sockpool:setopts(Conn, [{nodelay, true}]),
    ok = sockpool:checkin(Conn),
    ok = settled(Name),
    ok = sockpool:stop_pool(Name),
    ok = sockpool_scripted_peer:stop(Peer),
    ok = file:delete(Path).
