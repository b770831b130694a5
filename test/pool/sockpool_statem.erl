%%% A model of a pool and its clients, and PropEr's check that sockpool behaves as it does.
%%%
%%% Three clients check out, use, lend and give back the connections of a small pool, whose server
%%% and whose pool process are part of the game. After each command the pool has to come to rest as
%%% the model says: who holds, who waits and in which order, who was answered what, and no message
%%% in a mailbox that was not asked for. Time-outs occur only where their outcome is certain; what
%%% depends on timing is for sockpool_scripts.
%%%
%%% The pool may be one of workers instead (prop_workers). There is no server whose deeds are seen only
%%% later, so it is certain, too, what is counted, whose worker goes, and who gets it next.
-module(sockpool_statem).
-behaviour(proper_statem).

-export([prop_model/0, prop_workers/0]).
-export([initial_state/0, command/1, precondition/2, postcondition/3, next_state/3]).

-define(WORLD, sockpool_statem_world).
-define(SHORT_MS, 3).
-define(CRASHES_MAX, 2).
%% What may have to wait.
-define(MAY_WAIT(Function),
        (Function =:= checkout orelse Function =:= request orelse Function =:= execute orelse Function =:= transact)).

-record(lease, {owner :: atom(),
                %% What the server did, or that packet 2 is set.
                state = clean :: clean | framed | closed | stray}).

%% Nothing in it depends on what commands return, so all is known when they are generated.
-record(model, {opts :: map(),
                running = true :: boolean(),
                next = 1 :: pos_integer(),
                leases = #{} :: #{pos_integer() => #lease{}},
                ended = #{} :: #{pos_integer() => LastOwner :: atom()},
                %% Who has a copy of which handle, of an ended lease too.
                handles = [] :: [{Client :: atom(), pos_integer()}],
                queue = [] :: [{Client :: atom(), pos_integer(), Function :: atom()}],
                %% Every idle connection can be used.
                sound = true :: boolean(),
                crashes = 0 :: non_neg_integer(),
                %% Of workers only.
                counts = #{} :: #{atom() => non_neg_integer()},
                from = #{} :: #{pos_integer() => sockpool_statem_workers:from()},
                %% Leases with which their workers went.
                gone = [] :: [pos_integer()],
                %% Those that ended in this step and whose workers went back, and whether a worker went.
                returned = [] :: [pos_integer()],
                lost_one = false :: boolean()}).

-spec prop_model() -> term().
prop_model() ->
    proper:forall(options(), fun prop_model/1).

%% The same with workers.
-spec prop_workers() -> term().
prop_workers() ->
    proper:forall(worker_options(), fun prop_model/1).

prop_model(Opts) ->
    Commands = proper_statem:commands(?MODULE, started(#model{opts = Opts})),
    proper:forall(proper_statem:more_commands(3, Commands), fun(Cmds) -> run(Opts, Cmds) end).

run(Opts, Cmds) ->
    Outcome = ?WORLD:isolated(fun() -> run_commands(Opts, Cmds) end),
    Tell = fun() -> io:format("~p~nended so: ~p~n", [Cmds, Outcome]) end,
    proper:aggregate(proper_statem:command_names(Cmds),
                     proper:whenfail(Tell, fun() -> Outcome =:= passed end)).

run_commands(Opts, Cmds) ->
    ok = ?WORLD:start(Opts),
    [] = ?WORLD:difference(expected(started(#model{opts = Opts}))),
    {History, Model, Result} = proper_statem:run_commands(?MODULE, Cmds),
    case Result of
        ok ->
            [] = mismatches(Model, {call, ?WORLD, stop_pool, []}, ?WORLD:stop_pool()),
            ?WORLD:stop();
        _Failure ->
            {failed_at, length(History), Result, get(mismatches), Model}
    end.

%%% Generators.

options() ->
    proper_types:bind(
      proper_types:fixed_list([proper_types:integer(0, 2), proper_types:integer(0, 2),
                               proper_types:elements([lifo, fifo]),
                               proper_types:elements([infinity, 0]),
                               proper_types:elements([infinity, 1])]),
      fun([Size, Overflow, Strategy, Ttl, MaxWaiting]) ->
              #{size => Size, max_overflow => max(Overflow, 1 - Size), strategy => Strategy,
                overflow_ttl => Ttl, max_waiting => MaxWaiting}
      end, false).

worker_options() ->
    proper_types:bind(
      proper_types:fixed_list([options(), proper_types:elements([close, reuse]), proper_types:boolean()]),
      fun([Opts, Abandoned, Trap]) ->
              Opts#{transport => worker, worker => #{trap => Trap}, abandoned => Abandoned}
      end, false).

-spec initial_state() -> #model{}.
initial_state() ->
    started(#model{opts = #{size => 1, max_overflow => 0, max_waiting => infinity}}).

%% A start counts anew, and a crash goes on.
started(#model{opts = #{size := Size}} = Model) ->
    Model#model{running = true, sound = true, counts = #{closed => 0, checkouts => 0, checkins => 0, abandoned => 0, total => Size}}.

-spec command(#model{}) -> term().
command(Model) ->
    Calls = pool_calls(Model) ++ peer_calls(Model) ++ client_calls(Model) ++ handle_calls(Model),
    proper_types:weighted_union([{Weight, {call, ?WORLD, Function, Args}}
                                 || {Weight, Function, Args} <- Calls,
                                    precondition(Model, {call, ?WORLD, Function, Args})]).

pool_calls(#model{opts = Opts}) ->
    [{20, start_pool, [Opts]}, {2, stop_pool, []}, {2, crash_pool, []}].

peer_calls(#model{opts = #{transport := worker}, leases = Leases}) ->
    [{3, idle_workers_die, [lists:sort(maps:keys(Leases))]}]
        ++ [{2, worker_dies, [Key, How]} || Key <- maps:keys(Leases), How <- [kill, stop]];
peer_calls(#model{leases = Leases}) ->
    [{3, peer_close_idle, [lists:sort(maps:keys(Leases))]}]
        ++ [{Weight, Function, [Key]} || Key <- maps:keys(Leases),
                                         {Weight, Function} <- [{2, peer_close}, {2, peer_stray}]].

%% Who waits can do nothing else, so not too many.
client_calls(#model{next = Key} = Model) ->
    Take = case is_full(Model) of true -> 2; false -> 12 end,
    [{Weight, Function, [Client | Args]}
     || Client <- ?WORLD:clients(),
        {Weight, Function, Args} <-
            [{Take, checkout, [Key, infinity]}, {2, checkout, [Key, ?SHORT_MS]},
             {4, checkout_now, [Key]}, {2, transaction, []}, {2, kill, []}]
                ++ [Use || Function <- brief_uses(Model),
                           Use <- [{Take, Function, [Key, infinity]}, {2, Function, [Key, ?SHORT_MS]}]]].

brief_uses(#model{opts = #{transport := worker}}) -> [execute, transact];
brief_uses(#model{}) -> [request].

handle_calls(#model{handles = Handles, leases = Leases} = Model) ->
    [{Weight, Function, [Client, Key | Args]}
     || {Client, Key} <- Handles,
        {Weight, Function, Args} <- case is_map_key(Key, Leases) of
                                        true -> uses(Model);
                                        false -> [{10, lose, []} | uses(Model)]
                                    end].

uses(Model) ->
    [{8, checkin, []}, {2, discard, []}, {2, lose, []}]
        ++ own_uses(Model)
        ++ [{1, Move, [To]} || To <- ?WORLD:clients(), Move <- [lend, give_away]].

own_uses(#model{opts = #{transport := worker}}) ->
    [{4, call, []}, {2, crash, []}];
own_uses(#model{}) ->
    [{4, echo, []}, {2, recv_nothing, []}, {8, recv_stray, []}]
        ++ [{1, setopts, [Opts]} || Opts <- setopts()].

setopts() ->
    [[{packet, 2}], [{packet, raw}], [{nodelay, false}, {keepalive, true}], [{recbuf, 65536}]].

%%% What may be asked for, and what must come of it.

-spec precondition(#model{}, term()) -> boolean().
precondition(#model{running = Running, crashes = Crashes}, {call, _, crash_pool, []}) ->
    Running andalso Crashes < ?CRASHES_MAX;
precondition(#model{running = Running}, {call, _, start_pool, _}) ->
    not Running;
precondition(#model{}, {call, _, stop_pool, []}) ->
    true;
precondition(#model{running = Running, leases = Leases}, {call, _, Function, [Leased]})
  when Function =:= peer_close_idle; Function =:= idle_workers_die ->
    Running andalso lists:sort(maps:keys(Leases)) =:= Leased;
precondition(#model{leases = Leases}, {call, _, worker_dies, [Key, _How]}) ->
    is_map_key(Key, Leases);
precondition(#model{leases = Leases}, {call, _, peer_close, [Key]}) ->
    is_map_key(Key, Leases)
        andalso lists:member((maps:get(Key, Leases))#lease.state, [clean, framed]);
precondition(#model{leases = Leases}, {call, _, peer_stray, [Key]}) ->
    is_map_key(Key, Leases) andalso (maps:get(Key, Leases))#lease.state =:= clean;
precondition(Model, {call, _, kill, [Client]}) ->
    only_copies(lost(Client, Model), Client, Model) andalso certain(Client, Model);
precondition(Model, {call, _, Function, [Client | Args]}) ->
    not is_waiting(Client, Model) andalso may(Function, Client, Args, Model).

%% A time-out, and a check-out that does not wait, only where the outcome is certain.
may(Function, _Client, [_Key, ?SHORT_MS], Model) when ?MAY_WAIT(Function) ->
    Model#model.running andalso is_full(Model);
may(Function, _Client, [_Key, infinity], _Model) when ?MAY_WAIT(Function) ->
    true;
may(checkout_now, _Client, [_Key], #model{opts = #{size := Size}} = Model) ->
    not Model#model.running orelse is_full(Model)
        orelse (Model#model.sound andalso map_size(Model#model.leases) < Size);
may(transaction, _Client, [], Model) ->
    Model#model.running andalso not is_full(Model);
may(Function, Client, [Key | Args], Model) ->
    lists:member({Client, Key}, Model#model.handles)
        andalso may_use(Function, Client, Key, Args, holds(Client, Key, Model), Model).

%% As a stray answer is in the way of the next one, it must be read first.
may_use(recv_stray, _Client, _Key, [], #lease{state = State}, _Model) ->
    State =:= stray;
may_use(recv_stray, _Client, _Key, [], _NoLease, _Model) ->
    false;
may_use(Function, _Client, _Key, [], #lease{state = State}, _Model)
  when Function =:= echo; Function =:= recv_nothing ->
    State =/= stray;
may_use(setopts, _Client, _Key, _Opts, #lease{state = State}, _Model) ->
    State =:= clean orelse State =:= framed;
may_use(Function, Client, _Key, [To], _Holds, Model)
  when Function =:= lend; Function =:= give_away ->
    To =/= Client andalso not is_waiting(To, Model);
may_use(lose, Client, Key, [], _Holds, Model) ->
    only_copies([{Client, Key}], nobody, Model);
may_use(_Function, _Client, _Key, _Args, _Holds, _Model) ->
    true.

%% A lease ends with its owner, or with the last copy of its handle. Handles may share the resource
%% behind them, one after the other, so the latter is certain only while nobody has an older handle.
only_copies(Lost, Dying, #model{leases = Leases, ended = Ended} = Model) ->
    Left = [Key || {_, Key} <- Model#model.handles -- Lost],
    Ending = [Key || {_, Key} <- Lost, #lease{owner = Owner} <- [maps:get(Key, Leases, ended)],
                     Owner =/= Dying, not lists:member(Key, Left)],
    Ending =:= [] orelse not lists:any(fun(Key) -> is_map_key(Key, Ended) end, Left).

%% Where several leases end at once, how many workers are begun and closed meanwhile is certain only if all of them go
%% or all go back, and if nobody has waited who gives his one back at once.
certain(Client, #model{opts = #{transport := worker, abandoned := Abandoned}, queue = Queue} = Model) ->
    Owned = owned(Client, Model),
    Unheld = unheld(Model#model{handles = Model#model.handles -- lost(Client, Model)}) -- Owned,
    Brief = [Who || {Who, _, Function} <- Queue, Who =/= Client, Function =/= checkout],
    length(Owned ++ Unheld) < 2
        orelse (Brief =:= [] andalso (Abandoned =:= close orelse Owned =:= [] orelse Unheld =:= []));
certain(_Client, _Model) ->
    true.

-spec next_state(#model{}, term(), term()) -> #model{}.
next_state(Model, _Result, {call, _, Function, Args}) ->
    {_Allowed, New, _Told} = whole_step(Function, Args, Model),
    New.

%% It must not raise: Debian's PropEr asks for stack traces in a way that OTP 24 has taken out.
-spec postcondition(#model{}, term(), term()) -> boolean().
postcondition(Model, Call, Result) ->
    case mismatches(Model, Call, Result) of
        [] -> true;
        Found -> put(mismatches, Found), false
    end.

mismatches(Model, {call, _, Function, Args}, Result) ->
    {Allowed, New, Told} = whole_step(Function, Args, Model),
    Outcomes = [{Client, Key, ?WORLD:outcome(Client, Key)} || {Client, Key, _} <- Told],
    case [{answered, Result, instead_of, Allowed} || not lists:member(Result, Allowed)]
        ++ [{told, Outcomes, instead_of, Told} || Outcomes =/= Told] of
        [] -> ?WORLD:difference(expected(New));
        Wrong -> Wrong
    end.

expected(#model{running = false}) ->
    stopped;
expected(#model{leases = Leases, queue = Queue} = Model) ->
    Expected = #{leased => map_size(Leases), waiting => [Client || {Client, _, _} <- Queue]},
    case Model#model.opts of
        #{transport := worker} ->
            Expected#{workers => #{counts => Model#model.counts, from => Model#model.from,
                                   held => maps:keys(Leases), gone => Model#model.gone}};
        #{} ->
            Expected
    end.

%%% The model's steps: step(Function, Args, Model) -> {AllowedAnswers, NewModel, Told}, where Told
%%% is who is answered now that had to wait, be it for no time: [{Client, Key, Answer}].

whole_step(Function, Args, Model) ->
    {Allowed, New, Told} = step(Function, Args, Model#model{returned = [], lost_one = false}),
    {Allowed, at_rest(New), Told}.

%% Those that are missing were begun; with `overflow_ttl => 0' those that are too many were closed.
at_rest(#model{running = false} = Model) ->
    Model;
at_rest(#model{opts = Opts, leases = Leases, counts = #{total := Total, closed := Closed} = Counts} = Model) ->
    #{size := Size} = Opts,
    Kept = case Opts of
               #{overflow_ttl := 0} -> min(Total, max(Size, map_size(Leases)));
               #{} -> Total
           end,
    Model#model{counts = Counts#{total := max(Size, Kept), closed := Closed + Total - Kept}}.

step(start_pool, [_Opts], Model) ->
    {[ok], started(Model), []};
step(stop_pool, [], #model{running = false} = Model) ->
    {[{error, not_found}], Model, []};
step(stop_pool, [], Model) ->
    {New, Told} = shut({error, draining}, Model),
    {[ok], New#model{running = false}, Told};
step(crash_pool, [], #model{crashes = Crashes} = Model) ->
    {New, Told} = shut({error, closed}, Model),
    {[ok], New#model{crashes = Crashes + 1}, Told};
step(peer_close_idle, [_Leased], Model) ->
    {[ok], Model#model{sound = false}, []};
step(idle_workers_die, [_Leased], Model) ->
    {[ok], idle_closed(Model), []};
step(worker_dies, [Key, _How], Model) ->
    served([ok], end_lease(Key, lost, Model));
step(peer_close, [Key], Model) ->
    {[ok], with_state(Key, closed, Model), []};
step(peer_stray, [Key], Model) ->
    {[ok], with_state(Key, stray, Model), []};
step(kill, [Client], #model{queue = Queue} = Model) ->
    Killed = Model#model{queue = lists:keydelete(Client, 1, Queue),
                         handles = Model#model.handles -- lost(Client, Model)},
    #model{ended = Ended} = New = end_unheld(end_leases(owned(Client, Model), orphaned, Killed)),
    %% Who has his name from now on has owned nothing.
    served([ok], New#model{ended = maps:map(fun(_Key, Owner) when Owner =:= Client -> nobody;
                                               (_Key, Owner) -> Owner
                                            end, Ended)});
step(transaction, [_Client], Model) ->
    {[raised], let_go(discarded, taken(Model)), []};
step(checkout_now, [Client, Key], Model) ->
    case can_have_one(0, numbered(Key, Model)) of
        {true, New} -> {[ok], lease(Client, Key, New), []};
        {Error, New} -> {[Error], New, []}
    end;
step(Function, [Client, Key, Timeout], Model) when ?MAY_WAIT(Function) ->
    case can_have_one(Timeout, numbered(Key, Model)) of
        {true, New} when Function =:= checkout ->
            {[started], lease(Client, Key, New), [{Client, Key, ok}]};
        {true, New} ->
            {[started], use_briefly(Key, New), [{Client, Key, echoed}]};
        {queue, #model{queue = Queue} = New} ->
            {[started], New#model{queue = Queue ++ [{Client, Key, Function}]}, []};
        {Error, New} ->
            {[started], New, [{Client, Key, Error}]}
    end;
step(lose, [Client, Key], #model{handles = Handles} = Model) ->
    served([ok], end_unheld(Model#model{handles = Handles -- [{Client, Key}]}));
step(lend, [_Client, Key, To], Model) ->
    {[ok], with_handle(To, Key, Model), []};
step(give_away, [Client, Key, To], Model) ->
    Lent = with_handle(To, Key, Model),
    case holds(Client, Key, Model) of
        #lease{} = Lease ->
            Leases = Lent#model.leases,
            {[ok], Lent#model{leases = Leases#{Key := Lease#lease{owner = To}}}, []};
        Refused ->
            {refusals(Refused, Client, Key, Model), Lent, []}
    end;
step(Function, [Client, Key | Args], Model) ->
    case holds(Client, Key, Model) of
        #lease{state = State} -> use(Function, Args, Key, State, Model);
        Refused -> {refusals(Refused, Client, Key, Model), Model, []}
    end.

use(checkin, [], Key, _State, Model) ->
    served([ok], end_lease(Key, checked_in, Model));
use(discard, [], Key, _State, Model) ->
    served([ok], end_lease(Key, discarded, Model));
use(crash, [], Key, _State, Model) ->
    served([crashed], end_lease(Key, lost, Model));
use(_Function, _Args, _Key, closed, Model) ->
    {[{error, Reason} || Reason <- [closed, econnreset, epipe]], Model, []};
use(Function, [], _Key, _State, Model) when Function =:= echo; Function =:= call ->
    {[echoed], Model, []};
use(recv_nothing, [], _Key, _State, Model) ->
    {[{error, timeout}], Model, []};
use(recv_stray, [], Key, stray, Model) ->
    {[stray], with_state(Key, clean, Model), []};
use(setopts, [[{packet, 2}]], Key, _State, Model) ->
    {[ok], with_state(Key, framed, Model), []};
use(setopts, [[{packet, raw}]], Key, _State, Model) ->
    {[ok], with_state(Key, clean, Model), []};
use(setopts, [_Opts], _Key, _State, Model) ->
    {[ok], Model, []}.

%% Of an ended lease either is true: its handle may be on its way through other processes. But nobody has a worker after
%% it has gone.
refusals(not_owner, _Client, _Key, _Model) ->
    [{error, not_owner}];
refusals(ended, Client, Key, #model{opts = Opts, ended = Ended, gone = Gone}) ->
    case is_map_key(worker, Opts) andalso maps:get(Key, Ended) =:= Client andalso lists:member(Key, Gone) of
        true -> [{error, closed}];
        false -> [{error, closed}, {error, not_owner}]
    end.

%%% Parts of the steps.

is_full(#model{opts = #{size := Size, max_overflow := Overflow}, leases = Leases}) ->
    map_size(Leases) >= Size + Overflow.

is_waiting(Client, #model{queue = Queue}) ->
    lists:keymember(Client, 1, Queue).

holds(Client, Key, #model{leases = Leases}) ->
    case Leases of
        #{Key := #lease{owner = Client} = Lease} -> Lease;
        #{Key := _AnothersLease} -> not_owner;
        #{} -> ended
    end.

can_have_one(_Timeout, #model{running = false} = Model) ->
    {{error, not_found}, Model};
can_have_one(Timeout, #model{queue = Queue, opts = #{max_waiting := MaxWaiting}} = Model) ->
    case is_full(Model) of
        false -> {true, Model};
        true when Timeout =:= 0; length(Queue) >= MaxWaiting -> {{error, full}, Model};
        true when Timeout =:= infinity -> {queue, Model};
        true -> {{error, timeout}, Model}
    end.

numbered(Key, Model) ->
    Model#model{next = Key + 1}.

lost(Client, #model{handles = Handles}) ->
    [Handle || {Who, _Key} = Handle <- Handles, Who =:= Client].

with_handle(Client, Key, #model{handles = Handles} = Model) ->
    Model#model{handles = lists:usort([{Client, Key} | Handles])}.

with_state(Key, State, #model{leases = Leases} = Model) ->
    Model#model{leases = Leases#{Key := (maps:get(Key, Leases))#lease{state = State}}}.

%% When all connections are leased, none that is not sound is left idle.
lease(Client, Key, #model{leases = Leases, sound = Sound} = Model) ->
    Taken = taken(Key, with_handle(Client, Key, Model)),
    New = Taken#model{leases = Leases#{Key => #lease{owner = Client}}},
    New#model{sound = Sound orelse is_full(New)}.

%% For a request, or one of its kind: taken and given back.
use_briefly(Key, #model{returned = Returned} = Model) ->
    (let_go(checked_in, taken(Key, Model)))#model{returned = [Key | Returned]}.

taken(Key, #model{from = From} = Model) ->
    (taken(Model))#model{from = From#{Key => origin(Model)}}.

taken(#model{leases = Leases, counts = #{total := Total, checkouts := Checkouts} = Counts} = Model) ->
    Model#model{counts = Counts#{total := max(Total, map_size(Leases) + 1), checkouts := Checkouts + 1}}.

%% Who waited gets what has just come back, or what was begun for him.
origin(#model{returned = Returned, lost_one = LostOne}) when Returned =/= []; LostOne ->
    {given, Returned, LostOne};
origin(#model{opts = #{size := Size}, leases = Leases}) when map_size(Leases) < Size ->
    idle;
origin(#model{}) ->
    any.

%% How: checked_in; discarded; lost, with its worker or its handle; orphaned, as its owner died; shut, with the pool.
%% Its connection may go back unused, and then be idle as the server left it.
end_lease(Key, How, #model{leases = Leases, ended = Ended, sound = Sound} = Model) ->
    case maps:take(Key, Leases) of
        {#lease{owner = Owner, state = State}, Left} ->
            New = let_go(How, Model#model{leases = Left, ended = Ended#{Key => Owner}}),
            went(Key, How, New#model{sound = Sound andalso (State =:= clean orelse State =:= framed)});
        error ->
            Model
    end.

went(Key, How, #model{returned = Returned, gone = Gone} = Model) ->
    case goes(How, Model) of
        true -> Model#model{gone = [Key | Gone]};
        false -> Model#model{returned = [Key | Returned]}
    end.

let_go(How, #model{counts = #{total := Total, closed := Closed} = Counts} = Model) ->
    Counted = maps:update_with(counter(How), fun(Count) -> Count + 1 end, Counts),
    case goes(How, Model) of
        true -> Model#model{lost_one = true, counts = Counted#{total := Total - 1, closed := Closed + 1}};
        false -> Model#model{counts = Counted}
    end.

counter(How) when How =:= checked_in; How =:= discarded -> checkins;
counter(_How) -> abandoned.

%% The worker with its lease.
goes(checked_in, _Model) -> false;
goes(orphaned, #model{opts = #{abandoned := reuse}}) -> false;
goes(_How, _Model) -> true.

end_leases(Keys, How, Model) ->
    lists:foldl(fun(Key, Each) -> end_lease(Key, How, Each) end, Model, Keys).

owned(Client, #model{leases = Leases}) ->
    [Key || {Key, #lease{owner = Owner}} <- maps:to_list(Leases), Owner =:= Client].

unheld(#model{leases = Leases, handles = Handles}) ->
    [Key || Key <- maps:keys(Leases), not lists:keymember(Key, 2, Handles)].

end_unheld(Model) ->
    end_leases(unheld(Model), lost, Model).

%% All of them.
idle_closed(#model{leases = Leases, counts = #{total := Total, closed := Closed} = Counts} = Model) ->
    Leased = map_size(Leases),
    Model#model{counts = Counts#{total := Leased, closed := Closed + Total - Leased}}.

shut(Answer, #model{leases = Leases, queue = Queue} = Model) ->
    Shut = end_leases(maps:keys(Leases), shut, Model),
    {(idle_closed(Shut))#model{queue = [], sound = true}, [{Client, Key, Answer} || {Client, Key, _} <- Queue]}.

%% Those who wait are served in their order; a request gives its connection on to the next.
served(Allowed, Model) ->
    {New, Told} = serve(Model, []),
    {Allowed, New, Told}.

serve(#model{queue = [{Client, Key, What} | Queue]} = Model, Told) ->
    case is_full(Model) of
        true ->
            {Model, lists:reverse(Told)};
        false when What =:= checkout ->
            serve(lease(Client, Key, Model#model{queue = Queue}), [{Client, Key, ok} | Told]);
        false ->
            serve(use_briefly(Key, Model#model{queue = Queue}), [{Client, Key, echoed} | Told])
    end;
serve(#model{queue = []} = Model, Told) ->
    {Model, lists:reverse(Told)}.
