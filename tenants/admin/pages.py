"""What the operators' pages of all apps have in common: who may change what, and who changed it."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from tenants.admin_scope import ScopedAdmin


class ReadOnly:
    """Rows that only the product writes: operators look at them and act through actions."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(ReadOnly, ScopedAdmin):
    # These tables grow without end, and a search would count all of their rows each time.
    show_full_result_count = False


class ReadOnlyInline(ReadOnly, admin.TabularInline):
    extra = 0
    show_change_link = True

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields


@transaction.atomic
def note_each(
    page: admin.ModelAdmin, request: HttpRequest, rows: QuerySet, verb: str, **changes: Any
) -> None:
    """Change the rows, with a line in the history of each, and say how many there were."""
    changed = list(rows.select_for_update(of=["self"]))
    rows.model._default_manager.filter(pk__in=[row.pk for row in changed]).update(**changes)
    for row in changed:
        page.log_change(request, row, f"{verb.capitalize()}.")
    page.message_user(request, f"{len(changed)} {verb}.", messages.SUCCESS)


class WholeRowForm(forms.ModelForm):
    """Checks constraints even where they involve columns that the page doesn't let one edit.

    Django would leave those to the database, whose refusal is a crash to the operator.
    """

    def _get_validation_exclusions(self) -> set[str]:
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        columns = {field.name for field in self.instance._meta.concrete_fields}
        return excluded - (columns - set(self.fields))


class TenantsOwnAdmin(ScopedAdmin):
    """What belongs to a tenant for good: it is chosen once."""

    form = WholeRowForm
    autocomplete_fields = ["tenant"]
    list_select_related = ["tenant"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [*super().get_readonly_fields(request, obj), *(["tenant"] if obj else [])]
