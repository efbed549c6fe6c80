"""The stock counts its changes, as prices do."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]

    operations = [
        migrations.AddField("inventory", "revision", models.PositiveIntegerField(default=1)),
    ]
