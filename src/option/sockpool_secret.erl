%%% @private
%%% A term that is printed as a fun, so that it does not get into logs. This module is so small in order
%%% never to change: a process that holds such a fun would be killed when the code that made it is
%%% purged.
-module(sockpool_secret).

-export([seal/1]).
-export_type([secret/0]).

-type secret() :: fun(() -> term()).

-spec seal(term()) -> secret().
seal(Secret) -> fun() -> Secret end.
