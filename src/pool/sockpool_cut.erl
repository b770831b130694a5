%%% @private
%%% Messages whose end a function of the user's knows, which is shown what is there.
%%%
%%% It is called by who receives, in its process. What it was shown before is not copied for it again: the binary is the
%%% connection's buffer, and only grows.
-module(sockpool_cut).

-export([recv/3, finish/3]).

%% A message that has so many bytes, and no less than half of what is there, keeps the memory of all that.
-define(KEPT_BYTES, 1024).

%% @doc Goes on where the next calls are tail calls, so that nobody who waits is in this module.
-spec recv(sockpool_nif:lease(), binary(), sockpool_wait:deadline()) -> {ok, binary()} | {error, term()}.
recv(Lease, Shown, Deadline) ->
    case cut(Lease, Shown) of
        {done, Bytes} ->
            taken(sockpool_nif:take(Lease, Bytes), Shown, Bytes);
        {more, AtLeast} ->
            sockpool_wait:recv_rest(Lease, {packet, AtLeast}, again, Deadline);
        {error, _} = Error ->
            _ = sockpool_nif:take(Lease, bad),
            Error
    end.

%% @doc Of a request: the message ends it.
-spec finish(sockpool_nif:lease(), binary(), sockpool_wait:deadline()) -> {ok, binary()} | {error, term()}.
finish(Lease, Shown, Deadline) ->
    case cut(Lease, Shown) of
        {done, Bytes} ->
            Result = taken(sockpool_nif:take(Lease, Bytes), Shown, Bytes),
            _ = sockpool_nif:checkin(Lease),
            Result;
        {more, AtLeast} ->
            sockpool_wait:finish(Lease, {packet, AtLeast}, again, Deadline);
        {error, _} = Error ->
            _ = sockpool_nif:discard(Lease, io_error),
            Error
    end.

taken(ok, Shown, Bytes) -> {ok, message(Shown, Bytes)};
taken({error, _} = Error, _Shown, _Bytes) -> Error.

message(Shown, Bytes) when Bytes >= ?KEPT_BYTES, 2 * Bytes >= byte_size(Shown) -> binary:part(Shown, 0, Bytes);
message(Shown, Bytes) -> binary:copy(binary:part(Shown, 0, Bytes)).

cut(Lease, Shown) ->
    case sockpool_nif:cut(Lease) of
        {error, _} = Error -> Error;
        Function -> checked(called(Function, Shown), byte_size(Shown))
    end.

called(Function, Shown) ->
    try
        sockpool_callback:call(Function, [Shown])
    catch
        error:{badfun, Function} -> {error, badfun};
        Class:Reason:Stack -> {error, sockpool_reason:of_exception(Class, Reason, Stack)}
    end.

checked({done, Bytes} = Done, Have) when is_integer(Bytes), Bytes > 0, Bytes =< Have -> Done;
checked({more, unknown}, Have) -> {more, Have + 1};
checked({more, AtLeast} = More, Have) when is_integer(AtLeast), AtLeast > Have, AtLeast =< 16#ffffffff -> More;
checked({error, Reason}, _Have) -> {error, {framing, sockpool_reason:bounded(Reason)}};
checked(Other, _Have) -> {error, {framing, {bad_return, sockpool_reason:bounded(Other)}}}.
