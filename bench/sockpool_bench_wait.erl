%% @doc Waiting for a state that nobody announces.
-module(sockpool_bench_wait).

-export([until/1, until/2]).

-define(STEP_MS, 1).

%% @doc Returns once the condition holds; an error if it does not within ten seconds.
-spec until(fun(() -> boolean())) -> ok.
until(Condition) ->
    until(Condition, 10000).

-spec until(fun(() -> boolean()), WithinMs :: pos_integer()) -> ok.
until(Condition, WithinMs) ->
    poll(Condition, erlang:monotonic_time(millisecond) + WithinMs).

poll(Condition, DeadlineMs) ->
    case Condition() of
        true ->
            ok;
        false ->
            case erlang:monotonic_time(millisecond) > DeadlineMs of
                true -> error(condition_never_held);
                false -> timer:sleep(?STEP_MS), poll(Condition, DeadlineMs)
            end
    end.
