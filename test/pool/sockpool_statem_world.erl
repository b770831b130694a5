%%% What the commands of sockpool_statem do for real: a pool, a server or workers, and client processes
%%% that use the pool, each with handles of its own by number. Handles never leave the clients, so that
%%% nothing but the clients' copies keeps a lease alive.
%%%
%%% A command that may have to wait returns `started', and outcome/2 has what came of it.
-module(sockpool_statem_world).

-export([isolated/1, clients/0, start/1, stop/0, difference/1, outcome/2]).
%% For sockpool_statem_piped_world.
-export([more_clients/0, start_client/1, run/2, begin_to/3, handle/1]).
-export([eventually/1, pool_difference/1, waits/1, mailboxes/1, own_mailbox/0]).
-export([start_pool/1, stop_pool/0, crash_pool/0]).
-export([checkout/3, checkout_now/2, request/3, transaction/1]).
-export([checkin/2, discard/2, echo/2, recv_nothing/2, recv_stray/2, setopts/3]).
-export([lend/3, give_away/3, lose/2, kill/1]).
-export([peer_close/1, peer_stray/1, peer_close_idle/1]).
-export([execute/3, transact/3, call/2, crash/2, worker_dies/2, idle_workers_die/1]).

-define(POOL, sockpool_statem_pool).
-define(PEER, sockpool_statem_peer).
-define(ADDRESSES, sockpool_statem_addresses).
-define(PATIENCE_MS, 5000).
-define(STRAY, <<"stray">>).

-type client() :: atom().
-type key() :: pos_integer().
%% The number of a lease, or of a request.

-type expected() :: stopped
                  | #{leased := non_neg_integer(), waiting := [client()],
                      workers => sockpool_statem_workers:expected()}.

-spec clients() -> [client(), ...].
clients() ->
    [sockpool_statem_a, sockpool_statem_b, sockpool_statem_c].

%% Of a world that has more.
-spec more_clients() -> [client(), ...].
more_clients() ->
    [sockpool_statem_d, sockpool_statem_e].

%% What the fun returned, in a process of its own, with sockpool started before and stopped after.
-spec isolated(fun(() -> Result)) -> Result | {crashed, term()}.
isolated(Fun) ->
    {ok, _} = application:ensure_all_started(sockpool),
    {Pid, Monitor} = spawn_monitor(fun() -> exit({returned, Fun()}) end),
    Result = receive
                 {'DOWN', Monitor, process, Pid, {returned, Returned}} -> Returned;
                 {'DOWN', Monitor, process, Pid, Reason} -> {crashed, Reason}
             end,
    ok = application:stop(sockpool),
    lists:foreach(fun end_process/1, [?PEER | clients() ++ more_clients()]),
    Result.

end_process(Name) ->
    case whereis(Name) of
        undefined -> ok;
        Pid -> kill_process(Pid)
    end.

-spec start(map()) -> ok.
start(Opts) ->
    ?ADDRESSES = ets:new(?ADDRESSES, [named_table, public]),
    ok = sockpool_statem_workers:start(),
    true = register(?PEER, sockpool_scripted_peer:start(#{})),
    lists:foreach(fun start_client/1, clients()),
    start_pool(Opts).

%% After the pool was stopped: whether anything is left of it.
-spec stop() -> passed | {left_over, [term()]}.
stop() ->
    case eventually(fun leftovers/0) of
        [] -> passed;
        Left -> {left_over, Left}
    end.

leftovers() ->
    [{open_connections, Open} || Open <- sockpool_scripted_peer:clients(whereis(?PEER))]
        ++ [{living_worker, Pid} || Pid <- sockpool_statem_workers:living()]
        ++ mailboxes(clients()) ++ own_mailbox().

%%% Comparing the world with the model.

%% [] once the pool and the clients are as expected, or in what they still differ after a while.
-spec difference(expected()) -> [term()].
difference(stopped) ->
    eventually(fun() -> pool_difference(stopped) ++ mailboxes(clients()) ++ own_mailbox() end);
difference(#{waiting := Waiting} = Expected) ->
    eventually(fun() ->
                       pool_difference(Expected) ++ waits(Waiting)
                           ++ mailboxes(clients() -- Waiting) ++ own_mailbox()
               end).

-spec eventually(fun(() -> [term()])) -> [term()].
eventually(Difference) ->
    eventually(Difference, erlang:monotonic_time(millisecond) + ?PATIENCE_MS).

eventually(Difference, Deadline) ->
    case Difference() of
        [] ->
            [];
        Found ->
            case erlang:monotonic_time(millisecond) < Deadline of
                true -> receive after 1 -> eventually(Difference, Deadline) end;
                false -> Found
            end
    end.

-spec pool_difference(expected()) -> [term()].
pool_difference(stopped) ->
    [{Answer, lists:member(?POOL, sockpool_test_util:pools())}
     || Answer <- [sockpool:stats(?POOL)], Answer =/= {error, not_found}]
        ++ [{living_worker, Pid} || Pid <- sockpool_statem_workers:living()];
pool_difference(#{leased := Leased, waiting := Waiting} = Expected) ->
    {ok, Stats} = sockpool:stats(?POOL),
    #{size := Size, max_overflow := Overflow, total := Total, idle := Idle,
      created := Created, closed := Closed} = Stats,
    AsExpected = maps:with([leased, waiting, connecting], Stats)
        =:= #{leased => Leased, waiting => length(Waiting), connecting => 0},
    [{pool, Stats} || not (AsExpected
                           andalso Idle + Leased =:= Total
                           andalso Created - Closed =:= Total
                           andalso Total >= Size andalso Total =< Size + Overflow)]
        ++ case Expected of
               #{workers := Workers} -> sockpool_statem_workers:difference(Workers, Stats);
               #{} -> []
           end.

-spec waits([client()]) -> [term()].
waits(Clients) ->
    [{does_not_wait, Client} || Client <- Clients,
                                erlang:process_info(whereis(Client), [status, current_function])
                                    =/= [{status, waiting},
                                         {current_function, {sockpool_wait, await, 2}}]].

-spec mailboxes([client()]) -> [term()].
mailboxes(Clients) ->
    [{mailbox, Client, Messages}
     || Client <- Clients,
        {messages, [_ | _] = Messages} <- [erlang:process_info(whereis(Client), messages)]].

-spec own_mailbox() -> [term()].
own_mailbox() ->
    [{own_mailbox, Messages}
     || {messages, [_ | _] = Messages} <- [erlang:process_info(self(), messages)]].

%% What came of a command that returned `started'.
-spec outcome(client(), key() | reference()) -> term().
outcome(Client, Key) ->
    receive
        {Client, Key, Outcome} -> Outcome
    after ?PATIENCE_MS ->
        {nothing, erlang:process_info(whereis(Client), [current_stacktrace, messages])}
    end.

%%% Clients.

-spec start_client(client()) -> ok.
start_client(Name) ->
    Pid = spawn(fun() -> client(Name) end),
    true = register(Name, Pid),
    ok.

client(Name) ->
    receive
        {do, From, Tag, Fun} -> From ! {Name, Tag, Fun()};
        {handle, From, Tag, Key, Conn} -> keep(Key, Conn), From ! {Name, Tag, ok}
    end,
    client(Name).

kill_process(Pid) ->
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

%% Each handle stands in the client's process dictionary.
keep(Key, Conn) ->
    put({handle, Key}, Conn).

-spec handle(key()) -> sockpool:conn() | undefined.
handle(Key) ->
    get({handle, Key}).

-spec run(client(), fun(() -> term())) -> term().
run(Client, Fun) ->
    Tag = make_ref(),
    Client ! {do, self(), Tag, Fun},
    outcome(Client, Tag).

-spec begin_to(client(), key(), fun(() -> term())) -> started.
begin_to(Client, Key, Fun) ->
    Client ! {do, self(), Key, Fun},
    started.

%%% Commands.

-spec start_pool(map()) -> ok.
start_pool(#{transport := worker} = Opts) ->
    sockpool:start_pool(?POOL, sockpool_statem_workers:opts(Opts#{backoff => {1, 5}}));
start_pool(Opts) ->
    Target = #{host => {127, 0, 0, 1}, port => sockpool_scripted_peer:port(whereis(?PEER)),
               backoff => {1, 5}},
    sockpool:start_pool(?POOL, maps:merge(Target, Opts)).

-spec stop_pool() -> ok | {error, term()}.
stop_pool() ->
    sockpool:stop_pool(?POOL).

%% Returns once its supervisor has started it again.
-spec crash_pool() -> ok.
crash_pool() ->
    Old = pool_process(),
    ok = kill_process(Old),
    [] = eventually(fun() ->
                            %% The new process is there before its pool is open.
                            [not_restarted || New <- [pool_process()],
                                              New =:= Old orelse not is_pid(New)
                                                  orelse element(1, sockpool:stats(?POOL)) =/= ok]
                    end),
    ok.

pool_process() ->
    {_, Child, _, _} =
        lists:keyfind({sockpool, ?POOL}, 1, supervisor:which_children(sockpool_sup)),
    Child.

-spec checkout(client(), key(), timeout()) -> started.
checkout(Client, Key, Timeout) ->
    ok = sockpool_statem_workers:offered(Key),
    begin_to(Client, Key, fun() -> checked_out(Key, sockpool:checkout(?POOL, Timeout)) end).

-spec checkout_now(client(), key()) -> ok | {error, term()}.
checkout_now(Client, Key) ->
    ok = sockpool_statem_workers:offered(Key),
    run(Client, fun() -> checked_out(Key, sockpool:checkout(?POOL, 0)) end).

checked_out(Key, {ok, Conn}) ->
    keep(Key, Conn),
    case sockpool:worker(Conn) of
        {error, {bad_option, transport, tcp}} ->
            {ok, Address} = sockpool:sockname(Conn),
            true = ets:insert(?ADDRESSES, {Key, Address}),
            ok;
        Worker ->
            sockpool_statem_workers:had(Key, Worker)
    end;
checked_out(_Key, {error, _} = Error) ->
    Error.

-spec request(client(), key(), timeout()) -> started.
request(Client, Key, Timeout) ->
    Data = payload(),
    begin_to(Client, Key,
             fun() ->
                     case sockpool:request(?POOL, Data, byte_size(Data), Timeout) of
                         {ok, Data} -> echoed;
                         Other -> Other
                     end
             end).

%% A different one each time, so that nobody can take another's reply for his own.
payload() ->
    <<(erlang:unique_integer([positive])):64>>.

%% Its fun raises.
-spec transaction(client()) -> raised.
transaction(Client) ->
    run(Client, fun() ->
                        try sockpool:transaction(?POOL, fun(_Conn) -> throw(raised) end)
                        catch throw:raised -> raised
                        end
                end).

-spec checkin(client(), key()) -> ok | {error, term()}.
checkin(Client, Key) ->
    run(Client, fun() -> sockpool:checkin(handle(Key)) end).

-spec discard(client(), key()) -> ok | {error, term()}.
discard(Client, Key) ->
    run(Client, fun() -> sockpool:discard(handle(Key)) end).

-spec echo(client(), key()) -> echoed | {ok, binary()} | {error, term()}.
echo(Client, Key) ->
    run(Client, fun() -> echo(handle(Key)) end).

echo(Conn) ->
    Data = payload(),
    case sockpool:send(Conn, Data) of
        ok ->
            case sockpool:recv(Conn, reply_length(sockpool:info(Conn), Data), ?PATIENCE_MS) of
                {ok, Data} -> echoed;
                Other -> Other
            end;
        Error ->
            Error
    end.

reply_length({ok, #{packet := raw, pool := ?POOL}}, Data) -> byte_size(Data);
reply_length(_FramedOrGone, _Data) -> 0.

%% Nothing comes.
-spec recv_nothing(client(), key()) -> {ok, binary()} | {error, term()}.
recv_nothing(Client, Key) ->
    run(Client, fun() -> sockpool:recv(handle(Key), 0, 2) end).

-spec recv_stray(client(), key()) -> stray | {ok, binary()} | {error, term()}.
recv_stray(Client, Key) ->
    run(Client, fun() ->
                        case sockpool:recv(handle(Key), byte_size(?STRAY)) of
                            {ok, ?STRAY} -> stray;
                            Other -> Other
                        end
                end).

-spec setopts(client(), key(), [{atom(), term()}]) -> ok | {error, term()}.
setopts(Client, Key, Opts) ->
    run(Client, fun() -> sockpool:setopts(handle(Key), Opts) end).

%% The other client gets a copy of the handle.
-spec lend(client(), key(), client()) -> ok.
lend(Client, Key, To) ->
    Tester = self(),
    Tag = make_ref(),
    ok = run(Client, fun() -> To ! {handle, Tester, Tag, Key, handle(Key)}, ok end),
    outcome(To, Tag).

-spec give_away(client(), key(), client()) -> ok | {error, term()}.
give_away(Client, Key, To) ->
    ok = lend(Client, Key, To),
    Pid = whereis(To),
    run(Client, fun() -> sockpool:give_away(handle(Key), Pid) end).

-spec lose(client(), key()) -> ok.
lose(Client, Key) ->
    run(Client, fun() -> _ = erase({handle, Key}), true = erlang:garbage_collect(), ok end).

%% Another process takes the client's name, without handles.
-spec kill(client()) -> ok.
kill(Client) ->
    ok = kill_process(whereis(Client)),
    start_client(Client).

%%% What the other end does.

-spec peer_close(key()) -> ok | no_connection.
peer_close(Key) ->
    peer(address(Key), close).

-spec peer_stray(key()) -> ok | no_connection.
peer_stray(Key) ->
    peer(address(Key), {send, ?STRAY}).

%% Closes every connection but the leased ones.
-spec peer_close_idle([key()]) -> ok.
peer_close_idle(Leased) ->
    Idle = sockpool_scripted_peer:clients(whereis(?PEER)) -- [address(Key) || Key <- Leased],
    lists:foreach(fun(Address) -> peer(Address, close) end, Idle).

peer(Address, Command) ->
    sockpool_scripted_peer:command(whereis(?PEER), Address, Command).

address(Key) ->
    ets:lookup_element(?ADDRESSES, Key, 2).

%%% Workers.

%% Both give the worker back afterwards.
-spec execute(client(), key(), timeout()) -> started.
execute(Client, Key, Timeout) ->
    ok = sockpool_statem_workers:offered(Key),
    begin_to(Client, Key,
             fun() ->
                     case sockpool:execute(?POOL, fun(Worker) -> called(Key, Worker) end, Timeout) of
                         {ok, Outcome} -> Outcome;
                         {error, _} = Error -> Error
                     end
             end).

-spec transact(client(), key(), timeout()) -> started.
transact(Client, Key, Timeout) ->
    ok = sockpool_statem_workers:offered(Key),
    begin_to(Client, Key,
             fun() ->
                     try sockpool:transaction(?POOL, fun(Worker) -> called(Key, Worker) end, Timeout)
                     catch error:{checkout, Reason} -> {error, Reason}
                     end
             end).

called(Key, Worker) when is_pid(Worker) ->
    ok = sockpool_statem_workers:had(Key, Worker),
    echo_of(Worker);
called(_Key, Other) ->
    {no_worker, Other}.

echo_of(Worker) ->
    Data = payload(),
    {echo, Data} = gen_server:call(Worker, Data),
    echoed.

%% As echo/2.
-spec call(client(), key()) -> echoed | {error, term()} | {another, pid()}.
call(Client, Key) ->
    with_worker(Client, Key, fun echo_of/1).

%% It ends in a call of who has it.
-spec crash(client(), key()) -> crashed | {error, term()} | {another, pid()}.
crash(Client, Key) ->
    with_worker(Client, Key, fun(Worker) ->
                                     try gen_server:call(Worker, crash)
                                     catch exit:{crashed_on_purpose, _} -> crashed
                                     end
                             end).

with_worker(Client, Key, Fun) ->
    run(Client, fun() ->
                        Had = sockpool_statem_workers:worker(Key),
                        case sockpool:worker(handle(Key)) of
                            Had -> Fun(Had);
                            {error, _} = Error -> Error;
                            Other -> {another, Other}
                        end
                end).

-spec worker_dies(key(), kill | stop) -> ok.
worker_dies(Key, How) ->
    sockpool_statem_workers:die(sockpool_statem_workers:worker(Key), How).

%% All but those of these leases.
-spec idle_workers_die([key()]) -> ok.
idle_workers_die(Leased) ->
    lists:foreach(fun(Pid) -> sockpool_statem_workers:die(Pid, kill) end, sockpool_statem_workers:idle(Leased)).
