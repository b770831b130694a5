%%% PropEr's check that sockpool_poolboy answers as poolboy does: the same commands to a pool of each, with clients of
%%% its own for each. After each command both have to come to the same: the same answers, the same status, the same ones
%%% who wait. What docs/poolboy.md lists as different is not done here.
%%%
%%% The model knows only which numbers check-outs have; what the clients are able to do is for the world to say.
-module(sockpool_poolboy_statem).
-behaviour(proper_statem).

-export([prop_same/0]).
-export([initial_state/0, command/1, precondition/2, postcondition/3, next_state/3]).

-define(WORLD, sockpool_poolboy_world).

-record(model, {next = 1 :: pos_integer(), keys = [] :: [pos_integer()]}).

-spec prop_same() -> term().
prop_same() ->
    proper:forall(options(), fun prop_same/1).

prop_same(Args) ->
    proper:forall(proper_statem:more_commands(3, proper_statem:commands(?MODULE)), fun(Cmds) -> run(Args, Cmds) end).

run(Args, Cmds) ->
    Outcome = ?WORLD:isolated(Args, fun() ->
                                            case proper_statem:run_commands(?MODULE, Cmds) of
                                                {_History, _Model, ok} -> ?WORLD:ended();
                                                {History, _Model, Result} -> {failed_at, length(History), Result, get(seen)}
                                            end
                                    end),
    Tell = fun() -> io:format("~p~n~p~nended so: ~p~n", [Args, Cmds, Outcome]) end,
    proper:aggregate(proper_statem:command_names(Cmds), proper:whenfail(Tell, fun() -> Outcome =:= same end)).

options() ->
    proper_types:bind(
      proper_types:fixed_list([proper_types:integer(0, 3), proper_types:integer(0, 2),
                               proper_types:elements([lifo, fifo])]),
      fun([Size, Overflow, Strategy]) ->
              [{size, Size}, {max_overflow, max(Overflow, 1 - Size)}, {strategy, Strategy}]
      end, false).

-spec initial_state() -> #model{}.
initial_state() -> #model{}.

-spec command(#model{}) -> term().
command(#model{next = Key, keys = Keys}) ->
    Clients = proper_types:elements(?WORLD:clients()),
    proper_types:weighted_union(
      [{Weight, {call, ?WORLD, Function, Args}}
       || {Weight, Function, Args} <-
              [{8, checkout, [Clients, Key, false]}, {5, checkout, [Clients, Key, true]},
               {6, wait, [Clients, Key]}, {3, transaction, [Clients, proper_types:elements([ok, throw, error, exit])]},
               {2, kill_client, [Clients]}, {2, kill_idle, []}, {1, strange_checkin, [Clients]}]
              ++ [{Weight, Function, Args} || Keys =/= [],
                                              {Weight, Function, Args} <-
                                                  [{14, checkin, [proper_types:elements(Keys)]},
                                                   {5, checkin_by, [Clients, proper_types:elements(Keys)]},
                                                   {3, kill_worker, [proper_types:elements(Keys)]}]]]).

-spec precondition(#model{}, term()) -> boolean().
precondition(_Model, _Call) -> true.

-spec next_state(#model{}, term(), term()) -> #model{}.
next_state(#model{next = Next, keys = Keys} = Model, _Result, {call, _, Function, [_Client, Key | _]})
  when Function =:= checkout; Function =:= wait ->
    Model#model{next = max(Next, Key + 1), keys = [Key | Keys]};
next_state(Model, _Result, _Call) ->
    Model.

-spec postcondition(#model{}, term(), {same, term()} | {different, term(), term()}) -> boolean().
postcondition(_Model, _Call, {same, _}) -> true;
postcondition(_Model, _Call, Different) -> _ = put(seen, Different), false.
