%%% What the commands of sockpool_poolboy_statem do for real, to poolboy and to sockpool_poolboy: a pool of each, and for each
%%% of them the clients, processes that do what they are told. A check-out has a number, which is of one of a worker in each.
-module(sockpool_poolboy_world).

-export([isolated/2, clients/0, ended/0]).
-export([checkout/3, wait/2, transaction/2, checkin/1, checkin_by/2, strange_checkin/1]).
-export([kill_client/1, kill_worker/1, kill_idle/0]).

-define(APIS, [poolboy, sockpool_poolboy]).
-define(POOL(Api), {global, {?MODULE, Api}}).
-define(PATIENCE_MS, 10000).
-define(SHORT_MS, 20).

%% In the dictionary: for each API.
-record(world, {api :: module(),
                pid :: pid(),
                clients = #{} :: #{atom() => pid()},
                %% Whose check-outs others have checked in.
                left = [] :: [{Client :: atom(), Worker :: pid()}],
                %% Who has it, and what.
                held = #{} :: #{pos_integer() => {Client :: atom(), Worker :: pid()}},
                waiting = #{} :: #{Client :: atom() => {reference(), Key :: pos_integer()}}}).

clients() -> [a, b, c, d].

%% What the fun returned, in a process of its own between two pools' start and end.
isolated(Args, Fun) ->
    {ok, _} = application:ensure_all_started(sockpool),
    {Pid, Monitor} = spawn_monitor(fun() ->
                                           lists:foreach(fun(Api) -> put(Api, world(Api, Args)) end, ?APIS),
                                           exit({returned, Fun()})
                                   end),
    Outcome = receive
                  {'DOWN', Monitor, process, Pid, {returned, Returned}} -> Returned;
                  {'DOWN', Monitor, process, Pid, Reason} -> {crashed, Reason}
              end,
    lists:foreach(fun(Api) -> is_gone(fun() -> Api:status(?POOL(Api)) end) end, ?APIS),
    Outcome.

is_gone(Fun) ->
    try Fun() of
        _ -> receive after 1 -> is_gone(Fun) end
    catch
        exit:_ -> ok
    end.

world(Api, Args) ->
    {ok, Pid} = Api:start_link([{name, ?POOL(Api)}, {worker_module, sockpool_poolboy_worker} | Args], []),
    #world{api = Api, pid = Pid, clients = maps:from_list([{Client, client()} || Client <- clients()])}.

client() -> spawn_link(fun loop/0).

loop() ->
    receive
        {do, From, Ref, Fun} ->
            From ! {Ref, try {returned, Fun()}
                         catch throw:Thrown -> {throw, Thrown};
                               error:Raised -> {error, Raised};
                               exit:{Reason, {gen_server, call, [Pool | _]}} -> {exit, Reason, Pool =:= pool()};
                               exit:Reason -> {exit, Reason}
                         end},
            loop();
        {pool, Pool} ->
            put(pool, Pool),
            loop()
    end.

pool() -> get(pool).

%% At the end: everybody dies, and what they had is there.
ended() ->
    lists:foreach(fun(Api) ->
                          #world{clients = Clients} = World = get(Api),
                          lists:foreach(fun exit_of/1, maps:values(Clients)),
                          put(Api, World#world{held = #{}, waiting = #{}})
                  end, ?APIS),
    case settled() of
        {same, _} -> lists:foreach(fun(Api) -> ok = Api:stop(?POOL(Api)) end, ?APIS), same;
        Different -> Different
    end.

%%% Commands.

checkout(Client, Key, Block) ->
    TimeoutMs = case [full || Api <- ?APIS, element(1, Api:status(?POOL(Api))) =:= full] of
                    [] -> ?PATIENCE_MS;
                    _ -> ?SHORT_MS
                end,
    if_free(Client, fun(Api) ->
                            Answer = do(Api, Client, fun() -> Api:checkout(?POOL(Api), Block, TimeoutMs) end),
                            got(Api, Client, Key, Answer)
                    end).

wait(Client, Key) ->
    if_free(Client, fun(Api) ->
                            #world{waiting = Waiting} = World = get(Api),
                            Ref = tell(World, Client, fun() -> Api:checkout(?POOL(Api), true, infinity) end),
                            _ = put(Api, World#world{waiting = Waiting#{Client => {Ref, Key}}}),
                            asked
                    end).

transaction(Client, How) ->
    if_free(Client, fun(Api) ->
                            TimeoutMs = case Api:status(?POOL(Api)) of
                                            {full, _, _, _} -> ?SHORT_MS;
                                            _ -> ?PATIENCE_MS
                                        end,
                            do(Api, Client, fun() -> Api:transaction(?POOL(Api), fun(_) -> happen(How) end, TimeoutMs) end)
                    end).

happen(ok) -> ok;
happen(throw) -> throw(thrown);
happen(error) -> error(raised);
happen(exit) -> exit(left).

%% By who has it, who is not waiting for another.
checkin(Key) ->
    each(fun(Api) ->
                 case get(Api) of
                     #world{held = #{Key := {Client, _}}} -> if_client_free(Api, Client, fun() -> give_back(Api, Key) end);
                     #world{} -> not_held
                 end
         end).

%% But not by who has had that worker and has left the check-in to others: of the shim that would be the late one of that
%% check-out.
checkin_by(Client, Key) ->
    #world{held = Held, left = Left} = get(sockpool_poolboy),
    case Held of
        #{Key := {Owner, Worker}} when Owner =/= Client ->
            case lists:member({Client, Worker}, Left) of
                true -> {same, left_to_others};
                false -> checkin_for(Client, Key)
            end;
        #{} ->
            checkin_for(Client, Key)
    end.

checkin_for(Client, Key) ->
    if_free(Client, fun(Api) ->
                            case get(Api) of
                                #world{held = #{Key := {Owner, Worker}}, left = Left} = World ->
                                    put(Api, World#world{left = [{Owner, Worker} || Owner =/= Client] ++ Left}),
                                    forget(Api, Key),
                                    do(Api, Client, fun() -> Api:checkin(?POOL(Api), Worker) end);
                                #world{} ->
                                    not_held
                            end
                    end).

%% Of what is no worker of the pool.
strange_checkin(Client) ->
    Self = self(),
    if_free(Client, fun(Api) -> do(Api, Client, fun() -> Api:checkin(?POOL(Api), Self) end) end).

kill_client(Client) ->
    each(fun(Api) ->
                 #world{clients = Clients, held = Held, waiting = Waiting} = World = get(Api),
                 exit_of(maps:get(Client, Clients)),
                 put(Api, World#world{clients = Clients#{Client := client()},
                                      held = maps:filter(fun(_, {Owner, _}) -> Owner =/= Client end, Held),
                                      waiting = maps:remove(Client, Waiting)}),
                 killed
         end).

kill_worker(Key) ->
    each(fun(Api) ->
                 case get(Api) of
                     #world{held = #{Key := {_, Worker}}} ->
                         forget(Api, Key),
                         exit_of(Worker);
                     #world{} ->
                         not_held
                 end
         end).

%% One that nobody has.
kill_idle() ->
    each(fun(Api) ->
                 Held = [Worker || {_, Worker} <- maps:values((get(Api))#world.held)],
                 case workers(Api) -- Held of
                     [Worker | _] -> exit_of(Worker);
                     [] -> none
                 end
         end).

workers(poolboy) ->
    [Worker || {_, Worker, _, _} <- gen_server:call(?POOL(poolboy), get_all_workers)];
workers(sockpool_poolboy) ->
    #world{pid = Pid} = get(sockpool_poolboy),
    {links, Links} = process_info(Pid, links),
    [Worker || Worker <- Links, is_pid(Worker), proc_lib:translate_initial_call(Worker)
                                                    =:= {sockpool_poolboy_worker, init, 1}].

%%% How commands are done.

%% In both worlds; then both come to rest.
each(Fun) ->
    Answers = [Fun(Api) || Api <- ?APIS],
    case Answers of
        [Answer, Answer] ->
            case settled() of
                {same, _} -> {same, Answer};
                Different -> Different
            end;
        [OfPoolboy, OfShim] ->
            {different, OfPoolboy, OfShim}
    end.

if_free(Client, Fun) ->
    each(fun(Api) -> if_client_free(Api, Client, fun() -> Fun(Api) end) end).

if_client_free(Api, Client, Fun) ->
    case is_map_key(Client, (get(Api))#world.waiting) of
        true -> waits;
        false -> Fun()
    end.

do(Api, Client, Fun) ->
    Ref = tell(get(Api), Client, Fun),
    receive {Ref, Answer} -> Answer after 3 * ?PATIENCE_MS -> no_answer end.

tell(#world{api = Api, clients = Clients}, Client, Fun) ->
    Ref = make_ref(),
    Pid = maps:get(Client, Clients),
    Pid ! {pool, ?POOL(Api)},
    Pid ! {do, self(), Ref, Fun},
    Ref.

got(Api, Client, Key, {returned, Worker}) when is_pid(Worker) ->
    #world{held = Held} = World = get(Api),
    _ = is_process_alive(Worker) orelse error({dead, Worker}),
    [] = [Other || {_, Other} <- maps:values(Held), Other =:= Worker],
    _ = put(Api, World#world{held = Held#{Key => {Client, Worker}}}),
    got_one;
got(_Api, _Client, _Key, Answer) ->
    Answer.

give_back(Api, Key) ->
    #world{held = #{Key := {Client, Worker}}} = get(Api),
    forget(Api, Key),
    do(Api, Client, fun() -> Api:checkin(?POOL(Api), Worker) end).

forget(Api, Key) ->
    #world{held = Held} = World = get(Api),
    _ = put(Api, World#world{held = maps:remove(Key, Held)}),
    ok.

exit_of(Pid) ->
    true = unlink(Pid),
    Monitor = monitor(process, Pid),
    true = exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> killed end.

%%% Coming to rest.

%% The same twice, and as many are out and wait as there are whom the world knows.
settled() ->
    settled(erlang:monotonic_time(millisecond) + ?PATIENCE_MS, none).

settled(Deadline, Before) ->
    Seen = [seen(Api) || Api <- ?APIS],
    case Seen of
        [{at_rest, Same}, {at_rest, Same}] when Seen =:= Before ->
            {same, Same};
        [OfPoolboy, OfShim] ->
            case erlang:monotonic_time(millisecond) < Deadline of
                true -> receive after 1 -> settled(Deadline, Seen) end;
                false -> {different, OfPoolboy, OfShim}
            end
    end.

seen(Api) ->
    #world{waiting = Waiting} = get(Api),
    lists:foreach(fun({Client, {Ref, Key}}) ->
                          receive {Ref, Answer} -> served(Api, Client, Key, Answer) after 0 -> ok end
                  end, maps:to_list(Waiting)),
    #world{held = Held, waiting = Still} = get(Api),
    Status = {_, _, _, Monitored} = Api:status(?POOL(Api)),
    Facts = {Status, maps:map(fun(_, {Client, _}) -> Client end, Held), lists:sort(maps:keys(Still))},
    case Monitored =:= map_size(Held) andalso waiting(Api) =:= map_size(Still) of
        true -> {at_rest, Facts};
        false -> {on_the_way, Facts}
    end.

served(Api, Client, Key, Answer) ->
    #world{waiting = Waiting} = World = get(Api),
    _ = put(Api, World#world{waiting = maps:remove(Client, Waiting)}),
    case got(Api, Client, Key, Answer) of
        got_one -> ok;
        Other -> error({Api, Client, Other})
    end.

%% poolboy of Debian tells it only in its state.
waiting(poolboy) -> queue:len(hd([Queue || Queue <- tuple_to_list(sys:get_state(?POOL(poolboy))), queue:is_queue(Queue),
                                           is_tuple(Queue)]));
waiting(sockpool_poolboy) -> maps:get(waiting, sockpool_poolboy:status_map(?POOL(sockpool_poolboy))).
