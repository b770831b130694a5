%%% A model of a pool with `pipeline' above 1, and PropEr's check that sockpool behaves as it does.
%%%
%%% Five clients ask over the pool's one connection, several at once, and check it out for themselves in between. The
%%% server answers one request at a time, when it is told to, and closes the connection; clients are killed, stand still and
%%% give up, and the pool process is killed. After each command all has to be as the model says: who is under way and who waits and
%%% in which order, who was answered what, that each reply is that to its own request, and what the pool has counted.
-module(sockpool_statem_piped).
-behaviour(proper_statem).

-export([prop_piped/0]).
-export([initial_state/0, command/1, precondition/2, postcondition/3, next_state/3]).

-define(WORLD, sockpool_statem_piped_world).
-define(SHORT_MS, 3).
-define(CRASHES_MAX, 2).
-define(GONE, [closed, econnreset, epipe]).

%% A place is a client's until its reply has come, also if nobody waits for that any more.
-type place() :: {Client :: atom(), Key :: pos_integer()} | given_up.

%% What a lease's owner has done with its connection, and whether the server has closed it.
-type use() :: untouched | used | closed | failed.

%% `stale': the server has closed the idle connection. The pool may have seen it or not.
-type held() :: idle | stale | {lease, Client :: atom(), Key :: pos_integer(), use()} | {pipe, [place()]}.

%% Nothing in it depends on what commands return, so all is known when they are generated.
-record(model, {opts :: map(),
                running = true :: boolean(),
                next = 1 :: pos_integer(),
                held = idle :: held(),
                %% Replies that nobody has heard, so that it cannot be seen whether they were read and their places are free.
                unread = 0 :: non_neg_integer(),
                queue = [] :: [{Client :: atom(), Key :: pos_integer(), request | checkout}],
                %% Those who stand still, and what they were told meanwhile.
                suspended = [] :: [Client :: atom()],
                unheard = [] :: [{Client :: atom(), Key :: pos_integer(), Answers :: [term()]}],
                counts = #{} :: #{atom() => pos_integer()},
                crashes = 0 :: non_neg_integer()}).

-spec prop_piped() -> term().
prop_piped() ->
    proper:forall(options(), fun prop_piped/1).

prop_piped(Opts) ->
    Commands = proper_statem:commands(?MODULE, #model{opts = Opts}),
    proper:forall(proper_statem:more_commands(3, Commands), fun(Cmds) -> run(Opts, Cmds) end).

run(Opts, Cmds) ->
    Outcome = sockpool_statem_world:isolated(fun() -> run_commands(Opts, Cmds) end),
    Tell = fun() -> io:format("~p~nended so: ~p~n", [Cmds, Outcome]) end,
    proper:aggregate(proper_statem:command_names(Cmds),
                     proper:whenfail(Tell, fun() -> Outcome =:= passed end)).

run_commands(Opts, Cmds) ->
    ok = ?WORLD:start(Opts),
    [] = ?WORLD:difference(expected(#model{opts = Opts})),
    {History, Model, Result} = proper_statem:run_commands(?MODULE, Cmds),
    case Result of
        ok ->
            finish(Model);
        _Failure ->
            {failed_at, length(History), Result, get(mismatches), Model}
    end.

finish(#model{suspended = [Client | _]} = Model) ->
    Resume = {call, ?WORLD, resume, [Client]},
    [] = mismatches(Model, Resume, ?WORLD:resume(Client)),
    finish(next_state(Model, ok, Resume));
finish(Model) ->
    [] = mismatches(Model, {call, ?WORLD, stop_pool, []}, ?WORLD:stop_pool()),
    ?WORLD:stop().

%%% Generators.

%% An oldest reply is never overdue: it is the model that says when it comes.
options() ->
    proper_types:bind(
      proper_types:fixed_list([proper_types:integer(2, 4), proper_types:elements([raw, 4]),
                               proper_types:elements([infinity, infinity, 0, 1, 2])]),
      fun([Pipeline, Packet, MaxWaiting]) ->
              #{size => 1, max_overflow => 0, pipeline => Pipeline, pipeline_stall => infinity, packet => Packet,
                max_waiting => MaxWaiting}
      end, false).

-spec initial_state() -> #model{}.
initial_state() ->
    #model{opts = #{pipeline => 2, max_waiting => infinity}}.

-spec command(#model{}) -> term().
command(Model) ->
    Calls = pool_calls(Model) ++ client_calls(Model) ++ lease_calls(Model),
    proper_types:weighted_union([{Weight, {call, ?WORLD, Function, Args}}
                                 || {Weight, Function, Args} <- Calls,
                                    precondition(Model, {call, ?WORLD, Function, Args})]).

pool_calls(#model{opts = Opts}) ->
    [{20, start_pool, [Opts]}, {1, stop_pool, []}, {1, crash_pool, []}, {40, answer, []}, {4, close, []}].

client_calls(#model{next = Key}) ->
    [{Weight, Function, [Client | Args]}
     || Client <- ?WORLD:clients(),
        {Weight, Function, Args} <-
            [{8, request, [Key, infinity]}, {2, request, [Key, ?SHORT_MS]}, {1, request, [Key, 0]},
             {3, checkout, [Key, infinity]}, {1, checkout, [Key, ?SHORT_MS]}, {1, kill, []},
             {5, suspend, []}, {4, resume, []}]].

lease_calls(#model{held = {lease, Client, Key, _Use}}) ->
    [{30, checkin, [Client, Key]}, {5, discard, [Client, Key]}, {20, echo, [Client, Key]}];
lease_calls(#model{}) ->
    [].

%%% What may be asked for, and what must come of it.

-spec precondition(#model{}, term()) -> boolean().
precondition(#model{running = Running}, {call, _, start_pool, _}) ->
    not Running;
precondition(#model{running = Running, crashes = Crashes, suspended = Suspended}, {call, _, crash_pool, []}) ->
    Running andalso Crashes < ?CRASHES_MAX andalso Suspended =:= [];
precondition(#model{suspended = Suspended}, {call, _, stop_pool, []}) ->
    Suspended =:= [];
precondition(#model{held = Held} = Model, {call, _, answer, []}) ->
    is_tuple(Held) andalso element(1, Held) =:= pipe andalso not is_alone_and_suspended(Model);
precondition(#model{running = Running, held = Held} = Model, {call, _, close, []}) ->
    Running andalso not is_alone_and_suspended(Model)
        andalso case Held of
                        stale -> false;
                        {lease, _, _, Use} -> Use =:= untouched orelse Use =:= used;
                        _ -> true
                    end;
precondition(#model{suspended = Suspended}, {call, _, kill, [Client]}) ->
    not lists:member(Client, Suspended);
precondition(#model{suspended = Suspended}, {call, _, resume, [Client]}) ->
    lists:member(Client, Suspended);
precondition(#model{held = Held, suspended = Suspended}, {call, _, suspend, [Client]}) ->
    case Held of
        {pipe, [_, _ | _] = Places} ->
            is_placed(Client, Places) andalso not lists:member(Client, Suspended);
        _ ->
            false
    end;
precondition(#model{held = Held} = Model, {call, _, Function, [Client, Key]})
  when Function =:= checkin; Function =:= discard; Function =:= echo ->
    case Held of
        {lease, Client, Key, _} -> not is_busy(Client, Model);
        _ -> false
    end;
precondition(Model, {call, _, Function, [Client, _Key, Timeout]}) when Function =:= request; Function =:= checkout ->
    not is_busy(Client, Model) andalso is_certain(Function, Timeout, Model).

%% Who is alone on a pipe receives for himself, and it is not seen what has come while he stands still.
is_alone_and_suspended(#model{held = {pipe, [{Client, _Key}]}, suspended = Suspended}) ->
    lists:member(Client, Suspended);
is_alone_and_suspended(#model{}) ->
    false.

%% What comes of it. A check-out that does not wait is for another model.
is_certain(_Function, _Timeout, #model{running = false}) ->
    true;
is_certain(Function, Timeout, #model{held = Held, opts = #{max_waiting := MaxWaiting}} = Model) ->
    case Timeout of
        infinity when Held =:= stale -> MaxWaiting > 0;
        infinity -> MaxWaiting =:= infinity orelse is_room_certain(Function, Model);
        _ -> Held =/= stale andalso is_room_certain(Function, Model) andalso (Function =:= request orelse Held =/= idle)
    end.

is_room_certain(request, #model{held = {pipe, Places}, unread = Unread, opts = #{pipeline := Pipeline}}) ->
    length(Places) >= Pipeline orelse length(Places) + Unread < Pipeline;
is_room_certain(_Function, _Model) ->
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
    Outcomes = [{Client, sockpool_statem_world:outcome(Client, Key), instead_of, Answers}
                || {Client, Key, Answers} <- Told],
    case [{answered, Result, instead_of, Allowed} || not lists:member(Result, Allowed)]
        ++ [Wrong || {_, Outcome, _, Answers} = Wrong <- Outcomes, not lists:member(Outcome, Answers)] of
        [] -> ?WORLD:difference(expected(New));
        Wrong -> Wrong
    end.

expected(#model{running = false}) ->
    stopped;
expected(#model{held = Held, queue = Queue, suspended = Suspended, counts = Counts}) ->
    Exact = maps:from_list([{Name, {maps:get(Name, Counts, 0), 0}}
                            || Name <- [checkouts, checkins, closed, abandoned, timeouts, pipelined]]),
    #{closed := {Closed, 0}} = Exact,
    #{leased => case is_tuple(Held) of true -> 1; false -> 0 end,
      waiting => [Client || {Client, _, _} <- Queue],
      placed => case Held of {pipe, Places} -> [Client || {Client, _Key} <- Places]; _ -> [] end,
      suspended => Suspended,
      counts => Exact#{closed := {Closed, case Held of stale -> 1; _ -> 0 end}}}.

%%% The model's steps: step(Function, Args, Model) -> {AllowedAnswers, NewModel, Told}, where Told is who is answered now
%%% that had to wait, be it for no time: [{Client, Key, AllowedAnswers}].

whole_step(Function, Args, Model) ->
    {Allowed, #model{suspended = Suspended, unheard = Unheard} = New, Told} = step(Function, Args, Model),
    {Later, Now} = lists:partition(fun({Client, _, _}) -> lists:member(Client, Suspended) end, Told),
    {Allowed, New#model{unheard = Unheard ++ Later}, Now}.

step(suspend, [Client], #model{suspended = Suspended} = Model) ->
    {[ok], Model#model{suspended = [Client | Suspended]}, []};
step(resume, [Client], #model{suspended = Suspended, unheard = Unheard} = Model) ->
    {Told, Others} = lists:partition(fun({Who, _, _}) -> Who =:= Client end, Unheard),
    {[ok], Model#model{suspended = lists:delete(Client, Suspended), unheard = Others}, Told};
step(start_pool, [_Opts], Model) ->
    {[ok], started(Model), []};
step(stop_pool, [], #model{running = false} = Model) ->
    {[{error, not_found}], Model, []};
step(stop_pool, [], Model) ->
    {[ok], (started(Model))#model{running = false}, shut([draining], Model)};
step(crash_pool, [], #model{crashes = Crashes} = Model) ->
    {[ok], (started(Model))#model{crashes = Crashes + 1}, shut([closed], Model)};
step(answer, [], #model{held = {pipe, [Oldest | Places]}, unread = Before} = Model) ->
    Unread = case is_heard(Oldest, Model) of true -> 0; false -> Before + 1 end,
    served([ok], Model#model{held = {pipe, Places}, unread = Unread}, told(Oldest, [echoed]));
step(close, [], #model{held = idle} = Model) ->
    {[ok], Model#model{held = stale}, []};
step(close, [], #model{held = {lease, Client, Key, _Use}} = Model) ->
    {[ok], Model#model{held = {lease, Client, Key, closed}}, []};
step(close, [], #model{held = {pipe, Places}} = Model) ->
    Told = lists:append([told(Place, errors(?GONE)) || Place <- Places]),
    served([ok], count([checkins, closed], Model#model{held = idle, unread = 0}), Told);
step(kill, [Client], #model{queue = Queue} = Model) ->
    served([ok], killed(Client, Model#model{queue = lists:keydelete(Client, 1, Queue)}), []);
step(checkin, [_Client, _Key], #model{held = {lease, _, _, Use}} = Model) ->
    served([ok], count([checkins], Model#model{held = left_behind(Use)}), []);
step(discard, [_Client, _Key], Model) ->
    served([ok], count([checkins, closed], Model#model{held = idle}), []);
step(echo, [Client, Key], #model{held = {lease, Client, Key, Use}} = Model) when Use =:= closed; Use =:= failed ->
    {errors(?GONE), Model#model{held = {lease, Client, Key, failed}}, []};
step(echo, [Client, Key], Model) ->
    {[echoed], Model#model{held = {lease, Client, Key, used}}, []};
step(Function, [Client, Key, Timeout], Model) ->
    {New, Told} = asked(Function, {Client, Key}, Timeout, Model#model{next = Key + 1}),
    {[started], New, Told}.

asked(_Function, Who, _Timeout, #model{running = false} = Model) ->
    {Model, told(Who, errors([not_found]))};
asked(Function, {Client, Key} = Who, Timeout, #model{queue = Queue} = Model) ->
    Full = length(Queue) >= maps:get(max_waiting, Model#model.opts),
    case Queue =:= [] andalso is_room(Function, Model) of
        true when Function =:= checkout -> {taken(checkout, Who, Model), told(Who, [ok])};
        true when Timeout =:= infinity -> {taken(request, Who, Model), []};
        true -> {taken(request, given_up, Model), told(Who, errors([timeout]))};
        false when Timeout =:= 0; Full -> {Model, told(Who, errors([full]))};
        false when Timeout =:= infinity -> {Model#model{queue = Queue ++ [{Client, Key, Function}]}, []};
        false -> {count([timeouts], Model), told(Who, errors([timeout]))}
    end.

is_room(_Function, #model{held = Held}) when Held =:= idle; Held =:= stale ->
    true;
is_room(request, #model{held = {pipe, Places}, opts = #{pipeline := Pipeline}}) ->
    length(Places) < Pipeline;
is_room(_Function, #model{}) ->
    false.

%% One that the server has closed is replaced first.
taken(Function, Who, #model{held = stale} = Model) ->
    taken(Function, Who, count([closed], Model#model{held = idle}));
taken(checkout, {Client, Key}, #model{held = idle} = Model) ->
    count([checkouts], Model#model{held = {lease, Client, Key, untouched}});
taken(request, Place, #model{held = idle} = Model) ->
    taken(request, Place, count([checkouts], Model#model{held = {pipe, []}}));
taken(request, Place, #model{held = {pipe, Places}} = Model) ->
    count([pipelined], Model#model{held = {pipe, Places ++ [Place]}}).

%% A place stays; a connection that its owner has used goes with him.
killed(Client, #model{held = {pipe, Places}} = Model) ->
    Model#model{held = {pipe, [case Place of {Client, _} -> given_up; _ -> Place end || Place <- Places]}};
killed(Client, #model{held = {lease, Client, _Key, Use}} = Model) when Use =:= untouched; Use =:= closed ->
    count([abandoned], Model#model{held = left_behind(Use)});
killed(Client, #model{held = {lease, Client, _Key, _Use}} = Model) ->
    count([abandoned, closed], Model#model{held = idle});
killed(_Client, Model) ->
    Model.

left_behind(Use) when Use =:= closed; Use =:= failed -> stale;
left_behind(_Use) -> idle.

%% Those who wait are served in their order. A pipe on which nothing is under way is a connection like others.
served(Allowed, Model, Told) ->
    {New, ToldNow} = serve(Model, Told),
    {Allowed, New, ToldNow}.

serve(#model{held = {pipe, []}} = Model, Told) ->
    serve(count([checkins], Model#model{held = idle, unread = 0}), Told);
serve(#model{queue = [{Client, Key, Function} | Queue]} = Model, Told) ->
    Who = {Client, Key},
    case is_room(Function, Model) of
        true when Function =:= checkout ->
            {taken(checkout, Who, Model#model{queue = Queue}), Told ++ told(Who, [ok])};
        true ->
            serve(taken(request, Who, Model#model{queue = Queue, unread = 0}), Told);
        false ->
            {Model, Told}
    end;
serve(#model{queue = []} = Model, Told) ->
    {Model, Told}.

%% Those under way are told that the connection is closed, whatever those who wait are told.
shut(Reasons, #model{held = Held, queue = Queue}) ->
    [{Client, Key, errors(Reasons)} || {Client, Key, _} <- Queue]
        ++ case Held of
               {pipe, Places} -> lists:append([told(Place, errors([closed, draining])) || Place <- Places]);
               _ -> []
           end.

started(Model) ->
    Model#model{running = true, held = idle, unread = 0, queue = [], counts = #{}}.

is_busy(Client, #model{held = Held, queue = Queue, suspended = Suspended}) ->
    lists:keymember(Client, 1, Queue) orelse lists:member(Client, Suspended)
        orelse case Held of
                   {pipe, Places} -> is_placed(Client, Places);
                   _ -> false
               end.

is_placed(Client, Places) ->
    lists:keymember(Client, 1, [Place || Place <- Places, Place =/= given_up]).

is_heard(given_up, _Model) -> false;
is_heard({Client, _Key}, #model{suspended = Suspended}) -> not lists:member(Client, Suspended).

told(given_up, _Answers) -> [];
told({Client, Key}, Answers) -> [{Client, Key, Answers}].

errors(Reasons) -> [{error, Reason} || Reason <- Reasons].

count(Names, #model{counts = Counts} = Model) ->
    Model#model{counts = lists:foldl(fun(Name, Each) -> maps:update_with(Name, fun(Count) -> Count + 1 end, 1, Each) end,
                                     Counts, Names)}.
